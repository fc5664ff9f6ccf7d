//! Which machine an image is for.

use std::fmt;

use serde::{Deserialize, Serialize};

/// In the words of Go: `linux`, `amd64`, and for ARM a variant such as `v8`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    pub variant: Option<String>,
}

impl Platform {
    /// That of this binary.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Platform { os: "linux".into(), architecture: architecture.into(), variant: None }
    }

    /// Reads `os/architecture[/variant]`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(format!("invalid platform {text:?}: not os/architecture")),
        };
        if parts.iter().any(|part| part.is_empty()) {
            return Err(format!("invalid platform {text:?}: an empty part"));
        }
        let variant = variant.map(str::to_owned);
        Ok(Platform { os: os.into(), architecture: architecture.into(), variant })
    }

    /// How well what is offered suits: None not at all, else the larger the better. No variant is the one that
    /// containerd takes it for: v8 of arm64, v7 of arm, else the plainest.
    pub fn suits(&self, os: &str, architecture: &str, variant: Option<&str>) -> Option<u32> {
        if os != self.os || architecture != self.architecture {
            return None;
        }
        let number = |variant: Option<&str>| {
            let usual = match self.architecture.as_str() {
                "arm64" => "v8",
                "arm" => "v7",
                _ => "v1",
            };
            let variant = variant.filter(|variant| !variant.is_empty()).unwrap_or(usual);
            variant.trim_start_matches('v').split('.').next()?.parse::<u32>().ok()
        };
        let (offered, wanted) = (number(variant)?, number(self.variant.as_deref())?);
        (offered <= wanted).then_some(offered)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_suit_upwards_only() {
        let table = [
            ("linux/arm64", "linux/arm64", Some(8)),
            ("linux/arm64", "linux/arm64/v8", Some(8)),
            ("linux/arm64/v8", "linux/arm64", Some(8)),
            ("linux/arm64", "linux/arm64/8", Some(8)),
            ("linux/arm64", "linux/arm64/v9", None),
            ("linux/arm64/v9", "linux/arm64/v8", Some(8)),
            ("linux/arm64", "linux/arm/v7", None),
            ("linux/arm64", "linux/amd64", None),
            ("linux/arm64", "windows/arm64", None),
            ("linux/arm64", "unknown/unknown", None),
            ("linux/arm/v7", "linux/arm/v7", Some(7)),
            ("linux/arm/v7", "linux/arm/v6", Some(6)),
            ("linux/arm/v7", "linux/arm/v5", Some(5)),
            ("linux/arm/v7", "linux/arm", Some(7)),
            ("linux/arm/v6", "linux/arm/v7", None),
            ("linux/arm/v6", "linux/arm", None),
            ("linux/arm/v6", "linux/arm/v5", Some(5)),
            ("linux/amd64", "linux/amd64", Some(1)),
            ("linux/amd64", "linux/amd64/v1", Some(1)),
            ("linux/amd64", "linux/amd64/v3", None),
            ("linux/amd64/v3", "linux/amd64/v2", Some(2)),
            ("linux/amd64", "linux/386", None),
        ];
        for (wanted, offered, rank) in table {
            let (wanted, Platform { os, architecture, variant }) =
                (Platform::parse(wanted).unwrap(), Platform::parse(offered).unwrap());
            assert_eq!(wanted.suits(&os, &architecture, variant.as_deref()), rank, "{wanted} {offered}");
        }
        assert!(Platform::parse("linux").is_err());
        assert!(Platform::parse("linux/").is_err());
    }
}
