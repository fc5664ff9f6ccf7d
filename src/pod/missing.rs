//! Why a container has no image, in the kubelet's reasons, and when it is looked for again.

use std::time::Duration;

use super::restart::retry;

/// What `Fact::ImageMissing` may begin with; anything else is a pull that failed.
const REASONS: [&str; 4] = [PULL, "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"];

/// The one reason that is backed off; the others are told as they are at every look.
pub const PULL: &str = "ErrImagePull";

/// The reason with which the container waits, and what is told of it.
pub fn reason(why: &str) -> (&str, &str) {
    why.split_once(": ").filter(|(reason, _)| REASONS.contains(reason)).unwrap_or((PULL, why))
}

/// Reason and message in the kubelet's words.
pub fn told<'a>(image: &str, why: &'a str) -> (&'a str, String) {
    let (reason, why) = self::reason(why);
    let message = match reason {
        "InvalidImageName" => format!("Failed to apply default image tag \"{image}\": {why}"),
        "ImageInspectError" => format!("Failed to inspect image \"{image}\": {why}"),
        _ => why.to_owned(),
    };
    (reason, message)
}

/// How long a kubelet takes to look at a pod again that could not be started.
pub const SYNC: Duration = Duration::from_secs(10);
/// The longest wait between pulls.
const LONGEST: Duration = Duration::from_secs(300);
/// Failures this long before the next one count no more (client-go: twice the longest wait).
pub const FORGIVEN: Duration = Duration::from_secs(600);

/// How long after the last of `tries` failures for this reason it is looked for again.
pub fn wait(why: &str, tries: u32) -> Duration {
    if reason(why).0 == PULL { retry(SYNC, LONGEST, tries) } else { SYNC }
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
