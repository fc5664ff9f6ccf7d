//! Names and texts in messages: quoted, and what an unknown name was probably meant to be.

/// Text in quotes, control characters escaped, long text cut.
pub fn quote(text: &str) -> String {
    match text.char_indices().nth(60) {
        None => format!("{text:?}"),
        Some((cut, _)) => format!("{:?}...", text.get(..cut).unwrap_or_default()),
    }
}

/// The known name that is nearest to this one, where one is near: a third of its letters may be wrong.
pub fn nearest<'f>(name: &str, known: &[&'f str]) -> Option<&'f str> {
    if name.len() > 64 {
        return None;
    }
    let lower = name.to_lowercase();
    let distances = known.iter().map(|field| (distance(&lower, &field.to_lowercase()), *field));
    let (distance, field) = distances.min()?;
    (distance <= (name.len() / 3).max(1)).then_some(field)
}

/// How many letters must be changed, added, removed or swapped with their neighbour.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    // Row i and column j stand for the first i and j letters, so every index below is within its row.
    let mut rows = vec![(0..=to.len()).collect::<Vec<usize>>()];
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let change = rows[i][j] + usize::from(a != b);
            let mut best = change.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_only_when_near() {
        let known = ["hostNetwork", "hostname", "image", "env", "volumeMounts"];
        for (name, expected) in [
            ("hostnetwork", Some("hostNetwork")),
            ("hostNetwrok", Some("hostNetwork")),
            ("volumesMounts", Some("volumeMounts")),
            ("iamge", Some("image")),
            ("foo", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, &known), expected, "{name}");
        }
    }
}
