//! What a registry asks for when it answers 401: the challenges of WWW-Authenticate (RFC 9110, section 11.6.1).

/// How a registry wants to be told who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A token, to be had from `realm` (a URL).
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
    /// User and password with each request.
    Basic,
}

/// The challenge that we can meet, of all that the headers hold: a token before a password. None: there is none.
pub fn choose<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Challenge> {
    let found: Vec<Challenge> = headers.into_iter().flat_map(parse).collect();
    let bearer = found.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
    bearer.or(found.first()).cloned()
}

fn parse(header: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = header.trim_start();
    while !rest.is_empty() {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let end = rest.find(|c: char| !token(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let after = after.trim_start();
        match after.strip_prefix('=') {
            // What is no word at all ends the list: nothing behind it can be told apart.
            _ if word.is_empty() => break,
            Some(value) => {
                let Some((value, after)) = value_of(value.trim_start()) else { break };
                if let Some((_, parameters)) = found.last_mut() {
                    parameters.push((word.to_ascii_lowercase(), value));
                }
                rest = after;
            }
            None => {
                found.push((word.to_ascii_lowercase(), Vec::new()));
                rest = after;
            }
        }
    }
    found.into_iter().filter_map(|(scheme, parameters)| challenge(&scheme, &parameters)).collect()
}

fn challenge(scheme: &str, parameters: &[(String, String)]) -> Option<Challenge> {
    let parameter = |name: &str| {
        let found = parameters.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    };
    match scheme {
        "bearer" => Some(Challenge::Bearer {
            realm: parameter("realm")?,
            service: parameter("service"),
            scope: parameter("scope"),
        }),
        "basic" => Some(Challenge::Basic),
        _ => None,
    }
}

/// A token or a quoted string, and what follows it. None: a quote that never ends.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return Some((value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, quoted.get(at + 1..).unwrap_or_default())),
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            letter => value.push(letter),
        }
    }
    None
}

fn token(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Some(Challenge::Bearer { realm: realm.into(), service: own(service), scope: own(scope) })
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let scope = Some("repository:a/b:pull,push");
        let table: &[(&[&str], Option<Challenge>)] = &[
            (
                &[
                    r#"Bearer realm="https://auth.x/token",service="registry.x",scope="repository:a/b:pull,push""#,
                ],
                bearer("https://auth.x/token", Some("registry.x"), scope),
            ),
            (
                &[r#"bearer  Realm = "https://a/t" , error="invalid_token""#],
                bearer("https://a/t", None, None),
            ),
            (&["Bearer realm=https://a/t,service=s"], bearer("https://a/t", Some("s"), None)),
            (&[r#"Bearer realm="https://a/\"t\"",scope="""#], bearer("https://a/\"t\"", None, None)),
            (&[r#"Basic realm="Registry Realm""#], Some(Challenge::Basic)),
            (&["Basic"], Some(Challenge::Basic)),
            // Of several the token, in one header or in two.
            (&[r#"Basic realm="x, y", Bearer realm="https://a/t""#], bearer("https://a/t", None, None)),
            (&["Basic realm=x", r#"Bearer realm="https://a/t""#], bearer("https://a/t", None, None)),
            (&["Negotiate", "Basic"], Some(Challenge::Basic)),
            // Nothing that we could meet.
            (&["Negotiate"], None),
            (&["Bearer service=s"], None),
            (&[r#"Bearer realm="https://a"#], None),
            (&["", ",,", "=x", "é"], None),
            (&[], None),
        ];
        for (headers, expected) in table {
            assert_eq!(choose(headers.iter().copied()), *expected, "{headers:?}");
        }
    }
}
