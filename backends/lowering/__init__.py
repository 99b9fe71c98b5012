"""From a graph to a plan: the analyses that every backend shares."""
