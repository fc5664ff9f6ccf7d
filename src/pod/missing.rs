//! Why a container has no image, in the kubelet's reasons.

/// What `Fact::ImageMissing` may begin with; anything else is a pull that failed.
const REASONS: [&str; 4] = [PULL, "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"];

/// The one reason that is backed off; the others are told as they are at every look.
pub const PULL: &str = "ErrImagePull";

/// The reason with which the container waits, and what is told of it.
pub fn reason(why: &str) -> (&str, &str) {
    why.split_once(": ").filter(|(reason, _)| REASONS.contains(reason)).unwrap_or((PULL, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_once() {
        for (why, expected) in [
            ("ErrImagePull: not there", (PULL, "not there")),
            ("ImageInspectError: damaged: at 3", ("ImageInspectError", "damaged: at 3")),
            ("connect: refused", (PULL, "connect: refused")),
            ("ErrImagePull", (PULL, "ErrImagePull")),
            ("", (PULL, "")),
        ] {
            assert_eq!(reason(why), expected, "{why}");
        }
    }
}
