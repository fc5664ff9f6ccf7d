//! The file that a fileKeyRef names: lines `KEY='value'`, strictly.
//!
//! Source: Kubernetes v1.36, pkg/kubelet/util/env: blanks may stand before the key and after the value, `#` begins a
//! comment, a value may span lines, and nothing in it is special but the single quote that ends it.

/// The value of the key, where it stands first; None: the file does not have it. An error names the line before it that
/// is not as it should be; what follows the key is not looked at.
pub fn value(text: &str, key: &str) -> Result<Option<String>, String> {
    let text = text.replace("\r\n", "\n");
    let (mut rest, mut line) = (text.strip_suffix('\r').unwrap_or(&text), 1);
    while !rest.is_empty() {
        let start = rest.trim_start_matches([' ', '\t']);
        if start.starts_with('#') || start.starts_with('\n') || start.is_empty() {
            (rest, line) = (start.split_once('\n').map_or("", |(_, rest)| rest), line + 1);
            continue;
        }
        let fault = |what: &str| format!("line {line}: {what}: write KEY='value'");
        let (name, after) = start
            .split_once('=')
            .filter(|(name, _)| !name.contains('\n'))
            .ok_or_else(|| fault("there is no = in it"))?;
        if name.is_empty() || name.ends_with([' ', '\t']) {
            return Err(fault(if name.is_empty() { "no key" } else { "a blank before =" }));
        }
        let quoted = after.strip_prefix('\'').ok_or_else(|| fault("no single quote after ="))?;
        let (inner, after) = quoted.split_once('\'').ok_or_else(|| fault("no closing single quote"))?;
        let (tail, next) = after.split_once('\n').unwrap_or((after, ""));
        let tail = tail.trim_start_matches([' ', '\t']);
        if !tail.is_empty() && !tail.starts_with('#') {
            return Err(fault("more after the closing quote"));
        }
        if name == key {
            return Ok(Some(inner.to_owned()));
        }
        line += 1 + inner.matches('\n').count();
        rest = next;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B6: Kubernetes' TestParseEnv.
    #[test]
    fn b6_keys_and_values() {
        let table: &[(&str, &str, Option<&str>)] = &[
            ("   KEY1='val1'\n\tKEY2='val2'\n", "KEY2", Some("val2")),
            ("# comment\n\n  # another\nKEY1='val1'\n", "KEY1", Some("val1")),
            ("KEY1='val1'", "KEY3", None),
            ("", "KEY", None),
            ("KEY1='foo#notcomment'\n", "KEY1", Some("foo#notcomment")),
            ("KEY1='   foo bar   '", "KEY1", Some("   foo bar   ")),
            ("KEY1='a'\nKEY2=''", "KEY2", Some("")),
            ("KEY1='foo=bar=baz'", "KEY1", Some("foo=bar=baz")),
            ("KEY2='bar' # comment", "KEY2", Some("bar")),
            ("KEY1='$VAR'", "KEY1", Some("$VAR")),
            ("KEY1='${VAR}'", "KEY1", Some("${VAR}")),
            ("KEY1='value with \"nested\" quotes'", "KEY1", Some("value with \"nested\" quotes")),
            ("KEY1='line1\\nline2\\tline3'", "KEY1", Some("line1\\nline2\\tline3")),
            (
                "KEY1='line one\nline two\nline three'\nKEY2='x'",
                "KEY1",
                Some("line one\nline two\nline three"),
            ),
            ("KEY1='a'\r\nKEY2='b'\r\n", "KEY2", Some("b")),
            ("\r\n \r\nKEY1='a' \r", "KEY1", Some("a")),
            ("KEY='1'\nKEY='2'", "KEY", Some("1")),
            ("export KEY1='a'\nKEY1='b'", "KEY1", Some("b")),
            ("KEY1='\n'\t#'", "KEY1", Some("\n")),
        ];
        for (text, key, expected) in table {
            assert_eq!(value(text, key), Ok(expected.map(str::to_owned)), "{text:?} {key}");
        }
    }

    /// B6, further rows: a value is what stands between its quotes, on however many lines.
    #[test]
    fn b6_nothing_in_a_value_is_special() {
        for inside in [
            "",
            " ",
            "\t\n",
            "  foo  bar  ",
            "!@#$%^&*()_+-=[]{}|;:,.<>?/",
            "foo$BAR-${HOME}_$",
            "中文 Español 🌍",
            "path\\to\\file",
            "{\"name\": \"test\",\n  \"nested\": [1, 2]\n}",
            "line1\n\nline3 after empty line\n# no comment\nKEY2=no key\n   ",
        ] {
            let text = format!("KEY1='{inside}'\nKEY2='bar'\n");
            assert_eq!(value(&text, "KEY1"), Ok(Some(inside.into())), "{text:?}");
            assert_eq!(value(&text, "KEY2"), Ok(Some("bar".into())), "{text:?}");
        }
    }

    /// A bad line after the key made its value an error, where the kubelet has read no further.
    #[test]
    fn what_follows_the_key_is_not_looked_at() {
        for text in ["KEY='a'\nINVALID_LINE", "KEY='a' # b\nX = 'b'", "KEY='a'\nX='never ends"] {
            assert_eq!(value(text, "KEY"), Ok(Some("a".into())), "{text:?}");
            assert!(value(text, "OTHER").is_err(), "{text:?}");
        }
    }

    /// The carriage returns of a file with such line ends were kept in a value of several lines.
    #[test]
    fn a_value_has_no_carriage_return_before_its_line_ends() {
        assert_eq!(value("KEY='a\r\nb\rc'\r\n", "KEY"), Ok(Some("a\nb\rc".into())));
    }

    #[test]
    fn anything_else_is_an_error_that_names_its_line() {
        for (text, line) in [
            ("KEY1 = 'val1'", 1),
            ("KEY1 = 'val1'\nKEY2=   'val2'\nKEY3='val3'\n", 1),
            ("KEY1='foo'\nKEY2='bar\nKEY3='baz'\n", 2),
            ("KEY1='foo'\nKEY2=bar\n", 2),
            ("KEY1='a'\nKEY2=   'val2'", 2),
            ("KEY1 ='foo'", 1),
            ("='foo'", 1),
            ("INVALID_LINE", 1),
            ("INVALID_LINE\nKEY='x'", 1),
            ("KEY1='a\nb'\nKEY2=\"bar\"", 3),
            ("KEY1='foo''bar'", 1),
            ("KEY2='bar\nKEY3='baz'\n", 1),
            ("KEY2='bar'baz", 1),
            ("KEY1='value with \\'nested\\' quotes'", 1),
            ("KEY1='never ends", 1),
            ("KEY1=foo", 1),
            ("KEY1=", 1),
            (" ='foo'", 1),
            ("KEY1\t='foo'", 1),
            ("KEY1='a'\n\n# b\nKEY2=\"bar\"", 4),
        ] {
            let why = value(text, "KEY9").expect_err(text);
            assert!(why.starts_with(&format!("line {line}: ")), "{text:?}: {why}");
        }
    }
}
