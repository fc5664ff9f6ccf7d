//! Kubernetes' quantities: `500m`, `1.5Gi`, `2e3`. Exact to a billionth, rounded up beyond, as Kubernetes does.
//!
//! Source: Kubernetes API reference, "Quantity".

use std::cmp::Ordering;

/// In billionths of one; capped at 2^63-1 ones, as Kubernetes caps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(i128);

const NANO: i128 = 1_000_000_000;
const LARGEST: i128 = i64::MAX as i128 * NANO;

impl Quantity {
    /// Err says what would do.
    pub fn parse(text: &str) -> Result<Quantity, String> {
        read(text).ok_or_else(|| {
            let shown: String = text.chars().take(60).collect();
            let cut = if shown.len() < text.len() { "..." } else { "" };
            format!(
                "{shown:?}{cut} is not a quantity: write a number with an optional suffix, such as 500m, 2, 64Mi or 1G"
            )
        })
    }

    pub fn negative(self) -> bool {
        self.0 < 0
    }

    /// Whether it has a part smaller than one: a `memory: 100m` that was meant as 100M.
    pub fn fraction(self) -> bool {
        self.0 % NANO != 0
    }

    /// In ones, rounded up; 0 where negative.
    pub fn whole(self) -> u64 {
        up(self.0, NANO)
    }

    /// In thousandths, rounded up; 0 where negative.
    pub fn milli(self) -> u64 {
        up(self.0, NANO / 1000)
    }
}

fn up(nano: i128, unit: i128) -> u64 {
    match nano.cmp(&0) {
        Ordering::Greater => u64::try_from((nano + unit - 1) / unit).unwrap_or(u64::MAX),
        Ordering::Equal | Ordering::Less => 0,
    }
}

fn read(text: &str) -> Option<Quantity> {
    let (negative, unsigned) = match text.strip_prefix(['+', '-']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let end = unsigned.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(unsigned.len());
    let (number, suffix) = (unsigned.get(..end)?, unsigned.get(end..)?);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let (binary, exponent) = scale(suffix)?;
    let size = magnitude(whole, fraction, binary, exponent);
    Some(Quantity(if negative { -size } else { size }))
}

/// A suffix as (power of 2, power of 10).
fn scale(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        _ => {
            let digits = suffix.strip_prefix(['e', 'E'])?;
            let bare = digits.strip_prefix(['+', '-']).unwrap_or(digits);
            if bare.is_empty() || !bare.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            // An absurd exponent ends in the cap, or rounds up from next to nothing.
            let size = bare.parse::<i32>().unwrap_or(1000).min(1000);
            (0, if digits.starts_with('-') { -size } else { size })
        }
    })
}

/// digits * 2^binary * 10^exponent in billionths, rounded up, capped.
fn magnitude(whole: &str, fraction: &str, binary: u32, exponent: i32) -> i128 {
    // 30 digits are more than any value below the cap needs; what is cut off rounds up.
    let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).skip_while(|digit| *digit == b'0').collect();
    let point = 9 + exponent - i32::try_from(fraction.len()).unwrap_or(i32::MAX / 2);
    let kept = digits.len().min(30);
    let (head, tail) = digits.split_at(kept);
    let mut value = head.iter().fold(0i128, |value, digit| value * 10 + i128::from(digit - b'0'));
    let mut inexact = tail.iter().any(|digit| *digit != b'0');
    let mut tens = point.saturating_add(i32::try_from(tail.len()).unwrap_or(i32::MAX / 2));
    if value == 0 {
        return 0;
    }
    // Down first as far as digits go, so that the product below cannot overflow before it is over the cap.
    let mut twos = binary;
    while tens > 0 || twos > 0 {
        if value > LARGEST && tens >= 0 {
            return LARGEST;
        }
        if tens < 0 && value > LARGEST {
            inexact |= value % 10 != 0;
            value /= 10;
            tens += 1;
        } else if twos > 0 {
            value *= 2;
            twos -= 1;
        } else {
            value *= 10;
            tens -= 1;
        }
    }
    while tens < 0 && value > 0 {
        inexact |= value % 10 != 0;
        value /= 10;
        tens += 1;
    }
    (value + i128::from(inexact)).min(LARGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_and_round_as_kubernetes_rounds() {
        let table: [(&str, u64, u64); 40] = [
            ("0", 0, 0),
            ("1", 1, 1000),
            ("+1", 1, 1000),
            ("100m", 1, 100),
            ("0.1", 1, 100),
            (".5", 1, 500),
            ("1.", 1, 1000),
            ("1.5", 2, 1500),
            ("1.0005", 2, 1001),
            ("0.0001", 1, 1),
            ("1n", 1, 1),
            ("1u", 1, 1),
            ("0.1n", 1, 1),
            ("0.00000000000000000000000000000000000000001", 1, 1),
            ("2e3", 2000, 2_000_000),
            ("2E3", 2000, 2_000_000),
            ("2e+3", 2000, 2_000_000),
            ("25e-1", 3, 2500),
            ("1e-1000", 1, 1),
            ("1e-99999999999", 1, 1),
            ("1k", 1000, 1_000_000),
            ("1Ki", 1024, 1_024_000),
            ("1.5Ki", 1536, 1_536_000),
            ("1M", 1_000_000, 1_000_000_000),
            ("64Mi", 67_108_864, 67_108_864_000),
            ("1.5Gi", 1_610_612_736, 1_610_612_736_000),
            ("0.1Gi", 107_374_183, 107_374_182_400),
            ("1G", 1_000_000_000, 1_000_000_000_000),
            ("1T", 1_000_000_000_000, 1_000_000_000_000_000),
            ("1Ti", 1 << 40, (1 << 40) * 1000),
            ("1P", 1_000_000_000_000_000, 1_000_000_000_000_000_000),
            ("7Ei", 7 << 60, u64::MAX),
            ("8Ei", i64::MAX as u64, u64::MAX),
            ("1E", 1_000_000_000_000_000_000, u64::MAX),
            ("1e1000", i64::MAX as u64, u64::MAX),
            ("9223372036854775807", i64::MAX as u64, u64::MAX),
            ("9223372036854775808", i64::MAX as u64, u64::MAX),
            ("100000000000000000000000000000000000000000000", i64::MAX as u64, u64::MAX),
            ("-1", 0, 0),
            ("000001.50", 2, 1500),
        ];
        for (text, whole, milli) in table {
            let quantity = Quantity::parse(text).unwrap();
            assert_eq!(quantity.whole(), whole, "{text}");
            assert_eq!(quantity.milli(), milli, "{text} in thousandths");
        }
        assert!(Quantity::parse("-0.5").unwrap().negative());
        assert!(Quantity::parse("100m").unwrap().fraction() && !Quantity::parse("1e2").unwrap().fraction());
        assert_eq!(Quantity::parse("1000m"), Quantity::parse("1"));
        assert_eq!(Quantity::parse("0.5Gi"), Quantity::parse("512Mi"));
        assert!(Quantity::parse("1Gi") > Quantity::parse("1G"));
        assert_eq!(Quantity::parse("1000000000000000000000000000000e-30"), Quantity::parse("1"));
        assert_eq!(Quantity::parse("0.000000000000000000000000000001e30"), Quantity::parse("1"));
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in [
            "", "m", "1 Gi", "1gi", "1MB", "1K", "1.2.3", ".", "-", "1e", "1e+", "e3", "0x10", "1_000",
            "1,5", "١", "1Mi ",
        ] {
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
    }
}
