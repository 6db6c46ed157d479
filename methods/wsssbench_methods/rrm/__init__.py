"""RRM: "Reliability Does Matter", Zhang, Xiao, Wei, Sun, Huang, AAAI 2020 (arXiv 1911.08039), one step."""
