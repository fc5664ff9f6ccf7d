//! Whether, and not before when, an ended container runs again.
