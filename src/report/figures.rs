//! Figures: numbers as people read them. Decimal units, as Docker shows sizes.

/// `0 B`, `999 B`, `1.2 kB`, `68.1 MB`, `1.25 GB`: three significant digits.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if n < 1000 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1000.0;
    let mut unit = 0;
    // 999.5 and more would round to a four-digit number.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 file`, `2 files`, `3 entries`: the count with its noun.
pub fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// Change from `before` to `after` in percent: `-93.1 %`, `+4.0 %`, `0 %`; empty when there is no before.
pub fn percent(before: u64, after: u64) -> String {
    if before == 0 {
        return String::new();
    }
    let change = (after as f64 - before as f64) / before as f64 * 100.0;
    if before == after { "0 %".to_owned() } else { format!("{change:+.1} %") }
}

/// How many times smaller: `14.6x`; empty where that says nothing.
pub fn factor(before: u64, after: u64) -> String {
    if after == 0 || before <= after {
        return String::new();
    }
    let times = before as f64 / after as f64;
    let digits = if times < 99.95 { 1 } else { 0 };
    format!("{times:.digits$}x")
}

/// `0.3 s`, `12.5 s`, `3 min 05 s`.
pub fn seconds(s: f64) -> String {
    if s < 99.95 {
        return format!("{s:.1} s");
    }
    let whole = s.round() as u64;
    format!("{} min {:02} s", whole / 60, whole % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_and_a_unit() {
        for (n, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (68_123_456, "68.1 MB"),
            (999_499, "999 kB"),
            (999_999, "1.00 MB"),
            (1_253_000_000, "1.25 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(n), text, "{n}");
        }
    }

    #[test]
    fn counts_changes_and_times() {
        assert_eq!(count(0), "0");
        assert_eq!(count(1234567), "1,234,567");
        assert_eq!(percent(1000, 69), "-93.1 %");
        assert_eq!(percent(0, 5), "");
        assert_eq!(percent(5, 5), "0 %");
        assert_eq!(factor(146, 10), "14.6x");
        assert_eq!(factor(10, 10), "");
        assert_eq!(factor(10, 0), "");
        assert_eq!(seconds(0.26), "0.3 s");
        assert_eq!(seconds(185.2), "3 min 05 s");
    }
}
