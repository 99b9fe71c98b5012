"""Figures of compiled networks: throughput, scaling, rooflines, and how they are shown and kept."""
