"""The intermediate representation: types, bodies of gates, nodes, graphs, and their meaning."""
