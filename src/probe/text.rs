//! Text: whether bytes are the same, or the same but for the places that change from answer to answer.
//!
//! What changes is learned from answers of the untouched image alone. They are cut into tokens; where all
//! of them have the same structure, the tokens that differ are the mask.

/// How bytes compare with what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Same {
    /// Equal, or each token equal or masked.
    Whole,
    /// Equal but for this many masked tokens.
    Masked(usize),
    /// The untouched image's own answers have nothing in common that could be compared.
    Incomparable,
    /// Different: the first token (from 1) and byte (from 0) that is.
    Differs {
        /// Its number.
        token: usize,
        /// Where it begins in what was expected.
        byte: usize,
    },
}

/// Compares `got` with `first`, knowing that the untouched image also answered `others`.
pub(super) fn same(first: &[u8], others: &[&[u8]], got: &[u8]) -> Same {
    if others.iter().all(|other| *other == first) {
        return if first == got { Same::Whole } else { difference(first, got) };
    }
    if first == got || others.contains(&got) {
        return Same::Whole;
    }
    let mut differs = None;
    for cut in [Cut::Words, Cut::Codes] {
        match Mask::learn(cut, first, others).map(|mask| mask.compare(got)) {
            None => {}
            Some(different @ Same::Differs { .. }) => differs = differs.or(Some(different)),
            Some(same) => return same,
        }
    }
    if let Some(differs) = differs {
        return differs;
    }
    if let Some(sorted) = sorted_lines(first)
        && others.iter().all(|other| sorted_lines(other).as_ref() == Some(&sorted))
    {
        return if sorted_lines(got).as_ref() == Some(&sorted) {
            Same::Masked(sorted.len())
        } else {
            difference(first, got)
        };
    }
    Same::Incomparable
}

fn difference(first: &[u8], got: &[u8]) -> Same {
    let (expected, got) = (Cut::Words.tokens(first), Cut::Words.tokens(got));
    let at = expected.iter().zip(&got).take_while(|(a, b)| a == b).count();
    let byte = expected.iter().take(at).map(|token| token.len()).sum();
    Same::Differs { token: at + 1, byte }
}

/// How bytes are cut into tokens.
#[derive(Clone, Copy)]
enum Cut {
    /// Runs of letters and digits, single other bytes.
    Words,
    /// Runs that may hold what base64, times and versions hold: the second choice, because it masks more.
    Codes,
}

impl Cut {
    fn in_word(self, byte: u8) -> bool {
        match self {
            Self::Words => byte.is_ascii_alphanumeric(),
            Self::Codes => byte.is_ascii_alphanumeric() || b"+/=_.:%~-".contains(&byte),
        }
    }

    fn is_word(self, token: &[u8]) -> bool {
        token.first().is_some_and(|byte| self.in_word(*byte))
    }

    fn tokens(self, bytes: &[u8]) -> Vec<&[u8]> {
        bytes.chunk_by(|a, b| self.in_word(*a) && self.in_word(*b)).collect()
    }
}

/// Tokens and, for each, whether it changes.
struct Mask<'a> {
    cut: Cut,
    tokens: Vec<&'a [u8]>,
    masked: Vec<bool>,
}

impl<'a> Mask<'a> {
    /// `None` when the answers do not have the same structure, or no word in them stays.
    fn learn(cut: Cut, first: &'a [u8], others: &[&[u8]]) -> Option<Self> {
        let tokens = cut.tokens(first);
        let mut masked = vec![false; tokens.len()];
        for other in others {
            let other = cut.tokens(other);
            if other.len() != tokens.len() {
                return None;
            }
            for ((token, other), masked) in tokens.iter().zip(&other).zip(&mut masked) {
                if token != other {
                    if !(cut.is_word(token) && cut.is_word(other)) {
                        return None;
                    }
                    *masked = true;
                }
            }
        }
        let a_word_stays = tokens.iter().zip(&masked).any(|(token, masked)| !masked && cut.is_word(token));
        a_word_stays.then_some(Self { cut, tokens, masked })
    }

    fn compare(&self, got: &[u8]) -> Same {
        let got = self.cut.tokens(got);
        let pairs = self.tokens.iter().zip(&got).zip(&self.masked);
        let same = pairs.take_while(|((expected, got), masked)| expected == got || (**masked && self.cut.is_word(got)));
        let at = same.count();
        if at == self.tokens.len() && got.len() == self.tokens.len() {
            return Same::Masked(self.masked.iter().filter(|masked| **masked).count());
        }
        let byte = self.tokens.iter().take(at).map(|token| token.len()).sum();
        Same::Differs { token: at + 1, byte }
    }
}

/// Lines in order of their bytes. `None` for what is not lines.
fn sorted_lines(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut lines: Vec<_> = bytes.split(|byte| *byte == b'\n').collect();
    lines.sort_unstable();
    (lines.len() > 2).then_some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(first: &str, second: &str, got: &str) -> Same {
        same(first.as_bytes(), &[second.as_bytes()], got.as_bytes())
    }

    #[test]
    fn what_changed_before_may_change_again_and_nothing_else() {
        for (first, second, got, same) in [
            ("a b", "a b", "a b", Same::Whole),
            ("a b", "a b", "a c", Same::Differs { token: 3, byte: 2 }),
            ("at 12:01:07 ok", "at 12:01:09 ok", "at 12:01:55 ok", Same::Masked(1)),
            ("at 12:01:07 ok", "at 12:01:09 ok", "at 12:01:55 bad", Same::Differs { token: 9, byte: 12 }),
            ("csrf=aa+b/c= ok", "csrf=x9/zz== ok", "csrf=qq ok", Same::Masked(1)),
            ("t=12:01:07 ok", "t=12:01:09 ok", "t=12:02:01 ok", Same::Masked(1)),
            ("t=1.5s ok", "t=2s ok", "t=3.25s ok", Same::Masked(1)),
            ("<p>one</p>", "<p>one</p><p>two</p>", "<p>x</p>", Same::Incomparable),
            ("5f3a", "9bc1", "77aa", Same::Incomparable),
            ("b\na\nc", "c\nb\na", "a\nb\nc", Same::Masked(3)),
            ("", "", "", Same::Whole),
            ("abc", "abc", "", Same::Differs { token: 1, byte: 0 }),
        ] {
            assert_eq!(compared(first, second, got), same, "{first} | {second} | {got}");
        }
    }

    #[test]
    fn a_third_answer_widens_the_mask() {
        let answers: [&[u8]; 2] = [b"up 0 min 4 s", b"up 1 min 9 s"];
        assert_eq!(same(b"up 0 min 2 s", &answers[..1], b"up 1 min 0 s"), Same::Differs { token: 3, byte: 3 });
        assert_eq!(same(b"up 0 min 2 s", &answers, b"up 1 min 0 s"), Same::Masked(2));
    }
}
