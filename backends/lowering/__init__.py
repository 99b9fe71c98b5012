"""Lower a graph to a plan: the analyses that every backend shares.

`plan.make_plan` is the whole way: legalization (`legalize`), the split into channel groups
(`channel_groups`), then steps and planes for each node. Convolutions become cones (`convolution`,
`cone_cutter`, `pools`), dense bodies forests or stages of trails (`schedule`). `steps` says what a
plan is made of, and `options` which transformations a backend asks for.
"""
