//! What Kubernetes would say of a pod: a projection of facts.
