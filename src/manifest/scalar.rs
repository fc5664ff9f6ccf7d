//! What an unquoted word means: YAML 1.1's rules as Kubernetes' own YAML library applies them.

use serde_json::Number;

use super::tree::Value;

/// The value of an unquoted scalar: `yes` is true, `0644` is 420, `1_000` is 1000, `2024-01-01` is text.
/// Err: a number that JSON (and so Kubernetes) cannot hold, such as `.inf`.
pub fn resolve(word: &str) -> Result<Value, String> {
    Ok(match word {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Value::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Value::Bool(false)
        }
        ".nan" | ".NaN" | ".NAN" => return Err(format!("{word} is not a number that a manifest can hold")),
        _ if infinite(word) => return Err(format!("{word} is not a number that a manifest can hold")),
        _ => match number(word) {
            Some(number) => Value::Number(number),
            None => Value::Text(word.into()),
        },
    })
}

fn infinite(word: &str) -> bool {
    matches!(word.strip_prefix(['+', '-']).unwrap_or(word), ".inf" | ".Inf" | ".INF")
}

/// An integer or a float in any of YAML 1.1's spellings, except sexagesimals, which Kubernetes reads as text too.
pub fn number(word: &str) -> Option<Number> {
    if !word.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '+' | '-' | '.')) {
        return None;
    }
    let plain = word.replace('_', "");
    if let Some(integer) = integer(&plain) {
        return Some(integer);
    }
    if !float_style(&plain) {
        return None;
    }
    let float: f64 = plain.parse().ok()?;
    // Whole floats are integers in JSON's eyes: 1e3 is 1000.
    if float.fract() == 0.0 && float.abs() < 9.0e15 {
        return Some(Number::from(float as i64));
    }
    Number::from_f64(float)
}

fn integer(plain: &str) -> Option<Number> {
    let (negative, digits) = match plain.as_bytes().first()? {
        b'-' => (true, plain.get(1..)?),
        b'+' => (false, plain.get(1..)?),
        _ => (false, plain),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, digits.get(2..)?),
        [b'0', b'o' | b'O', ..] => (8, digits.get(2..)?),
        [b'0', b'b' | b'B', ..] => (2, digits.get(2..)?),
        [b'0', _, ..] => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    // from_str_radix takes a sign of its own, which must not come twice.
    if !digits.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return None;
    }
    let size = u64::from_str_radix(digits, radix).ok()?;
    if !negative {
        return Some(Number::from(size));
    }
    i64::try_from(-i128::from(size)).ok().map(Number::from)
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn float_style(word: &str) -> bool {
    let word = word.strip_prefix(['+', '-']).unwrap_or(word);
    let (base, exponent) = match word.split_once(['e', 'E']) {
        Some((base, exponent)) => (base, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (word, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = base.split_once('.').unwrap_or((base, ""));
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_what_kubernetes_reads() {
        for word in ["y", "Yes", "TRUE", "on", "ON"] {
            assert_eq!(resolve(word), Ok(Value::Bool(true)), "{word}");
        }
        for word in ["n", "no", "False", "OFF"] {
            assert_eq!(resolve(word), Ok(Value::Bool(false)), "{word}");
        }
        for word in ["", "~", "null", "Null", "NULL"] {
            assert_eq!(resolve(word), Ok(Value::Null), "{word}");
        }
        let integers: [(&str, i64); 16] = [
            ("0", 0),
            ("7", 7),
            ("+7", 7),
            ("-7", -7),
            ("0644", 420),
            ("0o644", 420),
            ("-0644", -420),
            ("0x1F", 31),
            ("0b101", 5),
            ("1_000", 1000),
            ("1e3", 1000),
            ("1E+3", 1000),
            ("08", 8),
            ("1.", 1),
            ("-9223372036854775808", i64::MIN),
            ("0x7fffffffffffffff", i64::MAX),
        ];
        for (word, value) in integers {
            assert_eq!(resolve(word), Ok(Value::Number(value.into())), "{word}");
        }
        assert_eq!(resolve("18446744073709551615"), Ok(Value::Number(u64::MAX.into())));
        for (word, value) in [("1.5", 1.5), (".5", 0.5), ("-0.25", -0.25), ("1e-3", 0.001)] {
            assert_eq!(resolve(word), Ok(Value::Number(Number::from_f64(value).unwrap())), "{word}");
        }
        let texts = [
            "yEs",
            "nil",
            "12:30",
            "2024-01-01",
            "1.2.3",
            "0x",
            "0xg",
            "+",
            "-",
            ".",
            "1e",
            "e3",
            "--1",
            "+-1",
            "0o9",
            "100m",
            "1Gi",
            "nginx:1.27",
            "NaN",
            "inf",
            "0_x",
        ];
        for word in texts {
            assert_eq!(resolve(word), Ok(Value::Text(word.into())), "{word}");
        }
        for word in [".inf", "-.Inf", ".nan"] {
            assert!(resolve(word).is_err(), "{word}");
        }
    }
}
