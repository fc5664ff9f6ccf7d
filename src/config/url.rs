//! Where pods are read from over HTTP: staticPodURL and its headers.

use std::fmt;

/// An HTTP URL without credentials: it is told wherever its pods are.
pub fn url(text: &str) -> Result<String, String> {
    let wrong =
        |why: &str| Err(format!("{text:?} {why}: write it like https://boards.example.com/pods.yaml"));
    let lower = text.to_ascii_lowercase();
    let Some(rest) = ["http://", "https://"].iter().find_map(|scheme| lower.strip_prefix(scheme)) else {
        return wrong("is no HTTP URL");
    };
    let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if place.contains('@') {
        // Not repeated: it holds a password.
        return Err(
            "holds credentials: give them as a header (staticPodURLHeader: {Authorization: [...]})".into()
        );
    }
    let bracket = place.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match place.get(bracket..).and_then(|rest| rest.rsplit_once(':')) {
        Some((before, port)) => (place.get(..bracket + before.len()).unwrap_or_default(), Some(port)),
        None => (place, None),
    };
    if host.is_empty() || host.starts_with('[') != host.ends_with(']') {
        return wrong("names no host");
    }
    if port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0)) {
        return wrong("has no port from 1 to 65535");
    }
    if text.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
        return wrong("holds a blank");
    }
    Ok(text.to_owned())
}

/// Headers of a request, in their order; a name may come twice. Their values are secrets, and are told nowhere.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// No message repeats the value.
    pub fn add(&mut self, name: &str, value: &str) -> Result<(), String> {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(letter) {
            return Err(format!("{name:?} is no header's name: use letters, digits and '-'"));
        }
        if value.bytes().any(|byte| byte < b' ' && byte != b'\t' || byte == 0x7f) {
            return Err(format!("the value of {name} holds a control character: remove it"));
        }
        self.0.push((name.to_owned(), value.trim().to_owned()));
        Ok(())
    }

    /// `--manifest-url-header` as the kubelet's: NAME:VALUE, several with commas between.
    pub fn add_pairs(&mut self, text: &str) -> Result<(), String> {
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once(':').ok_or("malformed pair, expect NAME:VALUE")?;
            self.add(name.trim(), value.trim())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_checked_and_never_holds_a_password() {
        for text in [
            "http://h/",
            "HTTPS://boards.example.com:8443/pods.yaml?board=1",
            "http://10.0.0.1",
            "http://[fd00::1]:80/x",
            "http://[::1]",
            "http://h/@x:y",
        ] {
            assert_eq!(url(text).as_deref(), Ok(text));
        }
        for (text, part) in [
            ("", "is no HTTP URL"),
            ("h/pods", "is no HTTP URL"),
            ("ftp://h/", "is no HTTP URL"),
            ("http:///pods", "names no host"),
            ("http://:80/", "names no host"),
            ("http://[::1/", "names no host"),
            ("http://h:0/", "has no port"),
            ("http://h:x/", "has no port"),
            ("http://h:/", "has no port"),
            ("http://h/a b", "holds a blank"),
            ("http://u:hunter2@h/", "holds credentials"),
        ] {
            let why = url(text).expect_err(text);
            assert!(why.contains(part) && !why.contains("hunter2"), "{text}: {why}");
        }
    }

    #[test]
    fn headers_are_read_as_the_kubelets_flag_and_their_values_are_not_told() {
        let mut headers = Headers::default();
        headers.add_pairs("a:hello,b: again ,,c:x:y").unwrap();
        headers.add_pairs("b:beautiful").unwrap();
        let pairs: Vec<_> = headers.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("a", "hello"), ("b", "again"), ("c", "x:y"), ("b", "beautiful")]);
        assert_eq!(format!("{headers:?}"), r#"["a", "b", "c", "b"]"#);
        for (text, part) in [
            ("hunter2", "malformed pair"),
            ("a b:hunter2", "is no header's name"),
            ("a:hunter2\r\nb", "control character"),
        ] {
            let why = Headers::default().add_pairs(text).expect_err(text);
            assert!(why.contains(part) && !why.contains("hunter2"), "{why}");
        }
    }
}
