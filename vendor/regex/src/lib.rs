//! The small regex engine by the name of the large one: libcontainer and oci-spec match a few short ASCII texts (CPU
//! affinities, Intel RDT schemata), for which the large one's tables and engines are a megabyte of a board's binary.

pub use regex_lite::*;
