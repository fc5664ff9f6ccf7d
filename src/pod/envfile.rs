//! The file that a fileKeyRef names: lines `KEY='value'`, strictly.
//!
//! Source: Kubernetes v1.36, pkg/kubelet/util/env: blanks may stand before the key and after the value, `#` begins a
//! comment, a value may span lines, and nothing in it is special but the single quote that ends it.

/// The value of the key; None: the file does not have it. An error names the line that is not as it should be, and is one
/// also where the key stands elsewhere.
pub fn value(text: &str, key: &str) -> Result<Option<String>, String> {
    let mut found = None;
    let (mut rest, mut line) = (text, 1);
    while !rest.is_empty() {
        let start = rest.trim_start_matches([' ', '\t']);
        if start.starts_with('#') || start.starts_with('\n') || start.starts_with("\r\n") || start.is_empty()
        {
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
        let tail = tail.trim_start_matches([' ', '\t']).trim_end_matches('\r');
        if !tail.is_empty() && !tail.starts_with('#') {
            return Err(fault("more after the closing quote"));
        }
        if name == key && found.is_none() {
            found = Some(inner.to_owned());
        }
        line += 1 + inner.matches('\n').count();
        rest = next;
    }
    Ok(found)
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
        ];
        for (text, key, expected) in table {
            assert_eq!(value(text, key), Ok(expected.map(str::to_owned)), "{text:?} {key}");
        }
    }

    #[test]
    fn anything_else_is_an_error_that_names_its_line() {
        for (text, line) in [
            ("KEY1 = 'val1'", 1),
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
        ] {
            let why = value(text, "KEY1").expect_err(text);
            assert!(why.starts_with(&format!("line {line}: ")), "{text:?}: {why}");
        }
    }
}
