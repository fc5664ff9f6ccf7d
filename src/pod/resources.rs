//! Requests and limits to QoS class, cgroup values and oom_score_adj.
