//! Time as plain data: a monotonic tick, and what wall time it stands for.

use std::ops::{Add, Sub};
use std::time::Duration;

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A moment of the machine's monotonic clock (CLOCK_BOOTTIME): nanoseconds since the kernel started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tick(pub u64);

impl Tick {
    /// The present moment.
    pub fn now() -> Self {
        Tick(nanoseconds(ClockId::CLOCK_BOOTTIME))
    }

    /// The moment `seconds` after the kernel started: what tests and tables write.
    pub const fn seconds(seconds: u64) -> Self {
        Tick(seconds * 1_000_000_000)
    }
}

/// The later moment; saturates instead of overflowing, so that an absurd grace period means "never".
impl Add<Duration> for Tick {
    type Output = Tick;
    fn add(self, span: Duration) -> Tick {
        Tick(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The time from `earlier` to `self`, zero where `earlier` is later.
impl Sub<Tick> for Tick {
    type Output = Duration;
    fn sub(self, earlier: Tick) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The sooner of a wake-up that may be set already and this one.
pub fn sooner(wake_at: Option<Tick>, due: Tick) -> Option<Tick> {
    Some(wake_at.map_or(due, |at| at.min(due)))
}

/// What turns a tick into wall time. Taken anew for each answer, so that a clock set late corrects every time told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wall {
    /// Nanoseconds since the Unix epoch at `Tick(0)`.
    epoch: i128,
}

impl Wall {
    /// The relation of the two clocks at this moment.
    pub fn now() -> Self {
        let wall = i128::from(nanoseconds(ClockId::CLOCK_REALTIME));
        Wall { epoch: wall - i128::from(nanoseconds(ClockId::CLOCK_BOOTTIME)) }
    }

    /// A fixed relation, for tests: `Tick(0)` is `seconds` after the Unix epoch.
    pub const fn at_boot(seconds: i64) -> Self {
        Wall { epoch: seconds as i128 * 1_000_000_000 }
    }

    /// The wall time of a tick, in UTC; clamped to what a timestamp can hold.
    pub fn time(&self, tick: Tick) -> Timestamp {
        let nanoseconds = self.epoch + i128::from(tick.0);
        Timestamp::from_nanosecond(nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// The tick of a wall time in seconds since the Unix epoch; None where it is before `Tick(0)` or beyond all ticks.
    pub fn tick(&self, second: i64) -> Option<Tick> {
        u64::try_from(i128::from(second) * 1_000_000_000 - self.epoch).ok().map(Tick)
    }
}

/// A span as Go writes it (time.ParseDuration): `1m30s`, `1.5h`, `300ms`, `0`; None where it is none, or negative.
pub fn span(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let digit = |letter: char| letter.is_ascii_digit() || letter == '.';
    let (mut rest, mut total) = (text, 0.0);
    loop {
        let (number, tail) = rest.split_at(rest.find(|letter| !digit(letter))?);
        let (unit, tail) = tail.split_at(tail.find(digit).unwrap_or(tail.len()));
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        if tail.is_empty() {
            return Duration::try_from_secs_f64(total).ok();
        }
        rest = tail;
    }
}

/// A span as Go prints it (Duration.String), to the millisecond: `300ms`, `1.5s`, `5m0s`, `1h0m0s`.
pub fn spelt(span: Duration) -> String {
    let (seconds, millis) = (span.as_secs(), span.subsec_millis());
    if seconds == 0 && millis > 0 {
        return format!("{millis}ms");
    }
    let part = format!(".{millis:03}");
    let part = part.trim_end_matches('0').trim_end_matches('.');
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}{part}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}{part}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}{part}s"),
    }
}

fn nanoseconds(clock: ClockId) -> u64 {
    match clock_gettime(clock) {
        Ok(time) => time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64,
        // Both clocks exist on every kernel since 2.6.39; a sandbox that forbids them stands still.
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_spelt_as_go_spells_them() {
        for (millis, text) in [
            (0, "0s"),
            (7, "7ms"),
            (1_000, "1s"),
            (1_230, "1.23s"),
            (10_000, "10s"),
            (40_000, "40s"),
            (60_000, "1m0s"),
            (61_500, "1m1.5s"),
            (300_000, "5m0s"),
            (3_600_000, "1h0m0s"),
            (4_500_001, "1h15m0.001s"),
        ] {
            assert_eq!(spelt(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn spans_are_gos() {
        for (text, milliseconds) in [
            ("20s", 20_000),
            ("1m30s", 90_000),
            ("3h30m", 12_600_000),
            ("1.5h", 5_400_000),
            (".5s", 500),
            ("300ms", 300),
            ("2000us", 2),
            ("3000µs", 3),
            ("5000000ns", 5),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(span(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in [
            "",
            "20",
            "s",
            "-5s",
            "+5s",
            "5 s",
            " 5s",
            "5d",
            "1..2s",
            "99999999999999999999999h",
            "1e3s",
            "1m2",
        ] {
            assert_eq!(span(text), None, "{text}");
        }
    }

    #[test]
    fn a_tick_saturates_and_tells_wall_time() {
        assert_eq!(Tick::seconds(3) - Tick::seconds(1), Duration::from_secs(2));
        assert_eq!(Tick::seconds(1) - Tick::seconds(3), Duration::ZERO);
        assert_eq!(Tick(u64::MAX) + Duration::from_secs(1), Tick(u64::MAX));
        assert_eq!(Wall::at_boot(1_700_000_000).time(Tick::seconds(5)).as_second(), 1_700_000_005);
    }
}
