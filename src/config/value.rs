//! Values as Kubernetes and Go write them: durations, quantities, names, addresses.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::clock::span;

/// A Go duration: `1m30s`, `1.5h`, `300ms`, `0`. Not negative.
pub fn duration(text: &str) -> Result<Duration, String> {
    span(text).ok_or_else(|| format!("{text:?} is no duration, write it like 20s or 1m30s"))
}

/// A Kubernetes quantity in whole bytes: `10Mi`, `5M`, `1048576`, `1.5Gi`, `1e6`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size, write it like 10Mi");
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let exponent = |text: &str| text.parse::<i32>().ok().map(|exponent| 10f64.powi(exponent));
    let factor = match unit {
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => unit.strip_prefix(['e', 'E']).and_then(exponent).ok_or_else(wrong)?,
    };
    let value = (number * factor).ceil();
    if value.is_finite() && value < 9.2e18 { Ok(value as u64) } else { Err(wrong()) }
}

/// As YAML 1.2 and Go write it.
pub fn switch(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("{text:?}: use true or false"))
}

/// A Kubernetes quantity of cores in thousandths, rounded up: `250m`, `1.5`.
pub fn milli(text: &str) -> Result<u64, String> {
    let (number, factor) = text.strip_suffix('m').map_or((text, 1000.0), |number| (number, 1.0));
    let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let value = number.parse::<f64>().ok().filter(|value| plain && *value < 1e9);
    let wrong = || format!("{text:?} is no amount of cpu, write it like 250m or 1.5");
    value.map(|value| (value * factor).ceil() as u64).ok_or_else(wrong)
}

/// A machine's name in lower case: DNS labels of letters, digits and dashes, 64 bytes at the most (the kernel's limit).
pub fn name(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if text.len() <= 64 && text.split('.').all(label) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(format!("{text:?} is no host name, use letters, digits and dashes, 64 at the most"))
}

/// `10.0.0.2`.
pub fn ipv4(text: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_| format!("{text:?} is no IPv4 address"))
}

/// `10.0.0.2/24`.
pub fn prefixed(text: &str) -> Result<(Ipv4Addr, u8), String> {
    let wrong = || format!("{text:?} is no address with its prefix, write it like 192.168.1.5/24");
    let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
    let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32).ok_or_else(wrong)?;
    Ok((address.parse().map_err(|_| wrong())?, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let table =
            [("20s", 20_000), ("1m30s", 90_000), ("1.5h", 5_400_000), ("300ms", 300), ("0", 0), ("0s", 0)];
        for (text, milliseconds) in table {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "20", "s", "-5s", "5 s", "5d", "1..2s", "99999999999999999999999h", "1e3s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        let table = [
            ("10Mi", 10 << 20),
            ("5M", 5_000_000),
            ("1048576", 1 << 20),
            ("1.5Ki", 1536),
            ("1e6", 1_000_000),
        ];
        for (text, value) in table {
            assert_eq!(bytes(text), Ok(value), "{text}");
        }
        for text in ["", "Mi", "-1", "10MB", "10 Mi", "1e", "1e99"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names() {
        assert_eq!(name("Porch-1.Home"), Ok("porch-1.home".into()));
        for text in ["", "-a", "a-", "a..b", "a_b", "a b", &"a".repeat(65)] {
            assert!(name(text).is_err(), "{text}");
        }
    }
}
