//! emptyDir and hostPath.
