//! Every oddity of a schedule, a row each.

use super::*;

/// A zone of these rules.
fn zone(rules: &str) -> Zone {
    Zone::new("Test/Zone", file(rules)).unwrap()
}

/// The rules of a zone as their file has them: a TZif (RFC 9636) of version 2 that has only a POSIX string.
pub(crate) fn file(rules: &str) -> Vec<u8> {
    let header = |version: u8, types: u32, letters: u32| {
        let mut bytes = b"TZif".to_vec();
        bytes.push(version);
        bytes.extend([0; 15]);
        for count in [0, 0, 0, 0, types, letters] {
            bytes.extend(count.to_be_bytes());
        }
        bytes
    };
    let mut file = Vec::new();
    for _ in 0..2 {
        file.extend(header(b'2', 1, 4));
        file.extend([0, 0, 0, 0, 0, 0]);
        file.extend(b"LMT\0");
    }
    file.extend(format!("\n{rules}\n").bytes());
    file
}

fn berlin() -> Zone {
    zone("CET-1CEST,M3.5.0,M10.5.0/3")
}

fn at(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_second()
}

fn told(second: i64) -> String {
    Timestamp::from_second(second).unwrap().to_string()
}

#[test]
fn the_next_times_are_the_controllers() {
    let utc = Zone::default();
    // 2026-11-25 is a Wednesday.
    for (schedule, after, expected) in [
        ("* * * * *", "2026-11-25T10:00:00Z", "2026-11-25T10:01:00Z"),
        ("* * * * *", "2026-11-25T10:00:59Z", "2026-11-25T10:01:00Z"),
        ("*/15 * * * *", "2026-11-25T10:46:00Z", "2026-11-25T11:00:00Z"),
        ("7/20 * * * *", "2026-11-25T10:46:00Z", "2026-11-25T10:47:00Z"),
        ("7-20/5 * * * *", "2026-11-25T10:13:00Z", "2026-11-25T10:17:00Z"),
        ("0,30 9-17 * * mon-fri", "2026-11-27T17:30:00Z", "2026-11-30T09:00:00Z"),
        ("0 3 * * *", "2026-11-25T03:00:00Z", "2026-11-26T03:00:00Z"),
        ("0 3 * * SUN", "2026-11-25T03:00:00Z", "2026-11-29T03:00:00Z"),
        ("59 23 31 Dec ?", "2026-12-31T23:59:00Z", "2027-12-31T23:59:00Z"),
        ("0 0 31 * *", "2026-11-25T00:00:00Z", "2026-12-31T00:00:00Z"),
        ("0 0 29 feb *", "2026-11-25T00:00:00Z", "2028-02-29T00:00:00Z"),
        // Both days given: either fits. One left open, also by */1: the other counts. */2 is no star.
        ("0 0 13 * 5", "2026-11-25T00:00:00Z", "2026-11-27T00:00:00Z"),
        ("0 0 13 * */1", "2026-11-25T00:00:00Z", "2026-12-13T00:00:00Z"),
        ("0 0 1 * */2", "2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z"),
        ("@hourly", "2026-11-25T10:00:00Z", "2026-11-25T11:00:00Z"),
        ("@daily", "2026-11-25T10:00:00Z", "2026-11-26T00:00:00Z"),
        ("@midnight", "2026-11-25T10:00:00Z", "2026-11-26T00:00:00Z"),
        ("@weekly", "2026-11-25T10:00:00Z", "2026-11-29T00:00:00Z"),
        ("@monthly", "2026-11-25T10:00:00Z", "2026-12-01T00:00:00Z"),
        ("@yearly", "2026-11-25T10:00:00Z", "2027-01-01T00:00:00Z"),
        ("@every 1h30m", "2026-11-25T10:00:10Z", "2026-11-25T11:30:10Z"),
        (" 0  3 * * * ", "1970-01-01T00:00:00Z", "1970-01-01T03:00:00Z"),
    ] {
        let next = Schedule::parse(schedule).unwrap().next(at(after), &utc).map(told);
        assert_eq!(next.as_deref(), Some(expected), "{schedule} after {after}");
    }
    let never = Schedule::parse("0 0 30 2 *").unwrap();
    assert_eq!(never.next(at("2026-11-25T00:00:00Z"), &utc), None);
    assert_eq!(never.latest(0, at("2026-11-25T00:00:00Z"), &utc), None);
}

#[test]
fn a_daylight_saving_change_leaves_out_an_hour_and_repeats_one() {
    for (schedule, after, expected) in [
        // 2026-03-29 02:00 CET is 03:00 CEST.
        ("30 2 * * *", "2026-03-28T12:00:00Z", "2026-03-30T00:30:00Z"),
        ("0 3 * * *", "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z"),
        ("*/20 * * * *", "2026-03-29T00:40:00Z", "2026-03-29T01:00:00Z"),
        // 2026-10-25 03:00 CEST is 02:00 CET.
        ("30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"),
        ("30 2 * * *", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"),
        ("30 2 * * *", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"),
        ("0 * * * *", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"),
        ("0 0 1 1 *", "2026-06-01T00:00:00Z", "2026-12-31T23:00:00Z"),
    ] {
        let next = Schedule::parse(schedule).unwrap().next(at(after), &berlin()).map(told);
        assert_eq!(next.as_deref(), Some(expected), "{schedule} after {after}");
    }
    let half = Schedule::parse("0 0 * * *").unwrap().next(at("2026-11-25T00:00:00Z"), &zone("<+0545>-5:45"));
    assert_eq!(half.map(told).as_deref(), Some("2026-11-25T18:15:00Z"));
}

#[test]
fn of_many_missed_times_the_latest_is_told_and_the_number() {
    let utc = Zone::default();
    for (schedule, after, until, expected) in [
        ("* * * * *", "2026-11-25T10:00:00Z", "2026-11-25T10:00:59Z", None),
        ("* * * * *", "2026-11-25T10:00:00Z", "2026-11-25T10:01:00Z", Some(("2026-11-25T10:01:00Z", 1))),
        ("* * * * *", "1970-01-01T00:00:00Z", "2026-11-25T10:01:30Z", Some(("2026-11-25T10:01:00Z", 101))),
        ("0 3 * * *", "2026-11-20T03:00:00Z", "2026-11-25T02:59:00Z", Some(("2026-11-24T03:00:00Z", 4))),
        ("0 0 1 1 *", "2019-06-01T00:00:00Z", "2026-11-25T02:59:00Z", Some(("2026-01-01T00:00:00Z", 7))),
        ("0 0 29 2 *", "2020-06-01T00:00:00Z", "2026-11-25T02:59:00Z", Some(("2024-02-29T00:00:00Z", 1))),
        ("@every 1m", "2026-11-25T10:00:10Z", "2026-11-25T10:03:00Z", Some(("2026-11-25T10:02:10Z", 2))),
    ] {
        let found = Schedule::parse(schedule).unwrap().latest(at(after), at(until), &utc);
        let found = found.map(|(time, count)| (told(time), count));
        assert_eq!(
            found,
            expected.map(|(time, count)| (time.to_owned(), count)),
            "{schedule} {after} {until}"
        );
    }
}

#[test]
fn a_bad_schedule_is_refused_in_the_parsers_words() {
    for (schedule, expected) in [
        ("", "empty spec string"),
        ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
        ("0 * * * * *", "expected exactly 5 fields, found 6: [0 * * * * *]"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* 24 * * *", "end of range (24) above maximum (23): 24"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("* * * * 7", "end of range (7) above maximum (6): 7"),
        ("30-10 * * * *", "beginning of range (30) beyond end of range (10): 30-10"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("x * * * *", "failed to parse int from x"),
        ("-1 * * * *", "failed to parse int from "),
        ("@fortnightly", "unrecognized descriptor: @fortnightly"),
        ("@every soon", "failed to parse duration @every soon"),
        ("TZ=UTC 0 * * * *", "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"),
        ("CRON_TZ=UTC 0 * * * *", "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"),
    ] {
        assert_eq!(Schedule::parse(schedule).unwrap_err(), expected, "{schedule}");
    }
}
