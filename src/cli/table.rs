//! Columns and ages as kubectl prints them.

use jiff::Timestamp;

/// Lays tab-separated cells out in columns: a column is as wide as its widest cell in consecutive lines, plus `gap`,
/// and at least `least`. The last cell of a line has no column. (Elastic tab stops, as Go's text/tabwriter.)
pub fn align(text: &str, least: usize, gap: usize) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|line| vec![0; line.len() - 1]).collect();
    for column in 0..widths.iter().map(Vec::len).max().unwrap_or(0) {
        let mut from = 0;
        while from < lines.len() {
            let run = widths[from..].iter().take_while(|line| line.len() > column).count();
            let cells = lines[from..from + run].iter().map(|line| line[column].chars().count() + gap);
            let width = cells.max().unwrap_or(0).max(least);
            widths[from..from + run].iter_mut().for_each(|line| line[column] = width);
            from += run.max(1);
        }
    }
    let mut out = String::new();
    for (line, widths) in lines.iter().zip(&widths) {
        for (cell, width) in line.iter().zip(widths) {
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
        }
        out.push_str(line.last().unwrap_or(&""));
        out.push('\n');
    }
    out
}

/// A table with kubectl's spacing.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    // A tab or a line break in a cell would be a column or a row of its own.
    let clean = |cell: &String| cell.replace(['\t', '\n', '\r'], " ");
    let rows = rows.iter().map(|row| row.iter().map(clean).collect::<Vec<_>>().join("\t"));
    let lines: Vec<String> = std::iter::once(head.join("\t")).chain(rows).collect();
    align(&lines.join("\n"), 6, 3)
}

/// The time since, as kubectl prints an age: `5m12s`, `2d3h`; `<unknown>` without one.
pub fn age(since: Option<Timestamp>, now: Timestamp) -> String {
    match since {
        Some(since) => span(now.as_second() - since.as_second()),
        None => "<unknown>".to_owned(),
    }
}

/// Kubernetes' HumanDuration: at most two units, coarser the longer.
pub fn span(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    let two = |big: i64, unit: char, small: i64, lesser: char| match small {
        0 => format!("{big}{unit}"),
        small => format!("{big}{unit}{small}{lesser}"),
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, 'm', seconds % 60, 's'),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, 'h', minutes % 60, 'm'),
        _ if hours < 48 => format!("{hours}h"),
        _ if days < 8 => two(days, 'd', hours % 24, 'h'),
        _ if days < 365 * 2 => format!("{days}d"),
        _ if days < 365 * 8 => two(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_kubernetes_ages() {
        const H: i64 = 3600;
        const D: i64 = 24 * H;
        let table = [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (312, "5m12s"),
            (599, "9m59s"),
            (600, "10m"),
            (3 * H - 1, "179m"),
            (3 * H, "3h"),
            (3 * H + 60, "3h1m"),
            (8 * H - 1, "7h59m"),
            (8 * H, "8h"),
            (48 * H - 1, "47h"),
            (48 * H, "2d"),
            (51 * H, "2d3h"),
            (8 * D, "8d"),
            (365 * 2 * D - 1, "729d"),
            (365 * 2 * D, "2y"),
            (365 * 2 * D + D, "2y1d"),
            (365 * 8 * D, "8y"),
        ];
        for (seconds, text) in table {
            assert_eq!(span(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn a_column_is_as_wide_as_its_neighbours_above_and_below() {
        let text = "A:\tb\n  Long:\tc\nno column\nB:\td\n\tlast\n";
        assert_eq!(align(text, 0, 2), "A:       b\n  Long:  c\nno column\nB:  d\n    last\n");
        let rows = vec![vec!["a".into(), "x\ty\n".into(), "end".into()]];
        assert_eq!(table(&["N", "LONGER", "M"], &rows), "N     LONGER   M\na     x y      end\n");
    }
}
