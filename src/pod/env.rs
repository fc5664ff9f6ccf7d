//! Environment and command: `$(VAR)` expansion, fieldRef and resourceFieldRef, the image's part.
