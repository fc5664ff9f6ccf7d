//! When images that nothing uses are removed: the kubelet's four fields, and which values go together.

use std::time::Duration;

use super::fields::number;
use super::value;

/// Of the disk that the images lie on, in percent; and the ages of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageGc {
    /// Once so much is used, images are removed, until no more than `low` is; 100: not for the disk's sake.
    pub high: u8,
    pub low: u8,
    /// A younger one stays.
    pub min_age: Duration,
    /// One that was not used for longer goes; 0: never for that.
    pub max_age: Duration,
}

const HIGH: &str = "imageGCHighThresholdPercent";
const LOW: &str = "imageGCLowThresholdPercent";
const MIN: &str = "imageMinimumGCAge";
const MAX: &str = "imageMaximumGCAge";

impl ImageGc {
    /// Sets the field; None: it is none of these.
    pub(super) fn set(&mut self, path: &str, text: &str) -> Option<Result<(), String>> {
        let percent = |text: &str| number(text, 0, 100).map(|percent| percent as u8);
        Some(match path {
            HIGH => percent(text).map(|percent| self.high = percent),
            LOW => percent(text).map(|percent| self.low = percent),
            MIN => value::duration(text).map(|age| self.min_age = age),
            MAX => value::duration(text).map(|age| self.max_age = age),
            _ => return None,
        })
    }

    /// Whether they go together, as the kubelet checks them; else the two that do not, and why.
    pub(super) fn check(&self) -> Result<(), ([&'static str; 2], String)> {
        let ImageGc { high, low, min_age, max_age } = self;
        if low >= high {
            return Err(([LOW, HIGH], format!("{low} must be less than {high}")));
        }
        if !max_age.is_zero() && max_age <= min_age {
            let (min, max) = (crate::clock::spelt(*min_age), crate::clock::spelt(*max_age));
            return Err(([MAX, MIN], format!("{max} must be greater than {min}, or 0")));
        }
        Ok(())
    }

    /// Takes these two back, and the others with them where they do not go with what was before.
    pub(super) fn forget(&mut self, fields: [&str; 2], former: ImageGc) {
        if fields.contains(&LOW) {
            (self.high, self.low) = (former.high, former.low);
        }
        if fields.contains(&MAX) || self.check().is_err() {
            (self.min_age, self.max_age) = (former.min_age, former.max_age);
        }
    }
}

impl Default for ImageGc {
    /// The kubelet's.
    fn default() -> Self {
        ImageGc { high: 85, low: 80, min_age: Duration::from_secs(120), max_age: Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// KubeletConfiguration's validation (validation.go), a row for each way to be wrong.
    #[test]
    fn i3_the_four_fields_are_checked_alone_and_together() {
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        let gc = |high, low, min, max| {
            let [min_age, max_age] = [min, max].map(Duration::from_secs);
            ImageGc { high, low, min_age, max_age }
        };
        let usual = ImageGc::default();
        let table: [(&str, ImageGc, Option<&str>); 16] = [
            ("imageGCHighThresholdPercent: 90", gc(90, 80, 120, 0), None),
            ("imageGCHighThresholdPercent: 90\nimageGCLowThresholdPercent: 85", gc(90, 85, 120, 0), None),
            ("imageGCHighThresholdPercent: 100\nimageGCLowThresholdPercent: 0", gc(100, 0, 120, 0), None),
            ("imageGCLowThresholdPercent: 10\nimageGCHighThresholdPercent: 11", gc(11, 10, 120, 0), None),
            ("imageMinimumGCAge: 0s\nimageMaximumGCAge: 720h", gc(85, 80, 0, 2_592_000), None),
            ("imageMinimumGCAge: 1h\nimageMaximumGCAge: 0s", gc(85, 80, 3600, 0), None),
            (
                "imageGCHighThresholdPercent: 101",
                usual,
                Some(
                    ":3: imageGCHighThresholdPercent: \"101\" is no number from 0 to 100; the default stays",
                ),
            ),
            (
                "imageGCLowThresholdPercent: -1",
                usual,
                Some(":3: imageGCLowThresholdPercent: \"-1\" is no number from 0 to 100"),
            ),
            ("imageGCHighThresholdPercent: 85%", usual, Some("\"85%\" is no number")),
            (
                "imageGCLowThresholdPercent: 85",
                usual,
                Some(
                    ":3: imageGCLowThresholdPercent, imageGCHighThresholdPercent: 85 must be less than 85; the defaults of both stay",
                ),
            ),
            (
                "imageGCHighThresholdPercent: 60",
                usual,
                Some(":3: imageGCLowThresholdPercent, imageGCHighThresholdPercent: 80 must be less than 60"),
            ),
            (
                "imageGCHighThresholdPercent: 60\nstaticPodPath: /m\nimageGCLowThresholdPercent: 70",
                usual,
                Some(":5: imageGCLowThresholdPercent, imageGCHighThresholdPercent: 70 must be less than 60"),
            ),
            (
                "imageMaximumGCAge: 1m",
                usual,
                Some(
                    ":3: imageMaximumGCAge, imageMinimumGCAge: 1m0s must be greater than 2m0s, or 0; the defaults of both stay",
                ),
            ),
            ("imageMaximumGCAge: 2m", usual, Some("2m0s must be greater than 2m0s")),
            ("imageMaximumGCAge: -1h", usual, Some(":3: imageMaximumGCAge: \"-1h\" is no duration")),
            ("imageGCLowThresholdPercent: [1]", usual, Some("must be one value, not a list")),
        ];
        for (lines, expected, told) in table {
            let (config, warnings) = Config::board("", Some(&format!("{head}{lines}\n")));
            assert_eq!(config.image_gc, expected, "{lines}");
            match told {
                None => assert_eq!(warnings, [""; 0], "{lines}"),
                Some(told) => {
                    assert!(warnings.len() == 1 && warnings[0].contains(told), "{lines}: {warnings:?}")
                }
            }
        }
        // Both pairs are wrong: one is told, and none of them counts.
        let both = "imageGCLowThresholdPercent: 90\nimageMaximumGCAge: 1m";
        assert_eq!(Config::board("", Some(&format!("{head}{both}\n"))).0.image_gc, usual);
    }
}
