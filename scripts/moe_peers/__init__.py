"""The same MoE layer by others: what ours is timed beside, one file a peer.

Every contestant computes all of a layer: router, top-k, experts, combination, shared experts.
"""
