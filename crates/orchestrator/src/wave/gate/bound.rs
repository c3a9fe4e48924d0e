//! The exact one-sided binomial bound of Clopper and Pearson, without logarithms.
//!
//! `k` successes among `n` show a share of at least `p` with confidence `c` exactly when so good a
//! sample would turn up with a probability of at most `1 - c` if the share were only `p`. That tail
//! is summed with additions and multiplications alone, which IEEE 754 defines to the last bit, so
//! that stored evidence judged a year later on another machine gives the same verdict. (Library
//! `ln` and `exp` differ between platforms.)

use crate::wave::gate::Ppm;

/// One power of two that scaled numbers are moved by to stay inside the range of a float.
const STEP: i32 = 512;

/// Says whether `successes` of `sample` show a share of at least `goal` with `confidence`.
///
/// A goal of everybody can never be shown by a sample; nor can anything by an empty one.
#[must_use]
pub fn is_shown(successes: u64, sample: u64, goal: Ppm, confidence: Ppm) -> bool {
    let failures = sample.saturating_sub(successes);
    // Below the goal itself no confidence of 50 % or more can be reached: do not sum a long tail.
    if sample == 0 || successes < goal.ceil_of(sample) || goal.get() == Ppm::WHOLE {
        return false;
    }
    let doubt = 1.0 - confidence.fraction();
    tail_at_most(failures, sample, goal.fraction(), doubt)
}

/// Returns the smallest sample that shows `goal` when nobody in it fails; `None` if none does.
#[must_use]
pub fn sample_needed(goal: Ppm, confidence: Ppm) -> Option<u64> {
    let (mut low, mut high) = (1, u64::from(u32::MAX));
    if !is_shown(high, high, goal, confidence) {
        return None;
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if is_shown(middle, middle, goal, confidence) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Some(low)
}

/// Returns the largest share, to the part per million, that the sample shows with `confidence`.
#[must_use]
pub fn lower_bound(successes: u64, sample: u64, confidence: Ppm) -> Ppm {
    let (mut low, mut high) = (0, Ppm::WHOLE);
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        let shown =
            Ppm::new(middle).is_some_and(|goal| is_shown(successes, sample, goal, confidence));
        if shown {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ppm::new(low).unwrap_or(Ppm::percent(0))
}

/// A positive number `mantissa × 2^(STEP × steps)` with a mantissa well inside the float range.
#[derive(Clone, Copy)]
struct Scaled {
    mantissa: f64,
    steps: i64,
}

impl Scaled {
    const ONE: Self = Self {
        mantissa: 1.0,
        steps: 0,
    };

    fn times(self, other: Self) -> Self {
        Self {
            mantissa: self.mantissa * other.mantissa,
            steps: self.steps + other.steps,
        }
        .settled()
    }

    /// Moves the mantissa back between `2^-STEP/2` and `2^STEP/2`; exact, powers of two only.
    fn settled(mut self) -> Self {
        let up = 2f64.powi(STEP);
        let high = 2f64.powi(STEP / 2);
        if self.mantissa > high {
            self.mantissa /= up;
            self.steps += 1;
        } else if self.mantissa > 0.0 && self.mantissa < 1.0 / high {
            self.mantissa *= up;
            self.steps -= 1;
        }
        self
    }

    fn power(base: f64, mut exponent: u64) -> Self {
        let mut result = Self::ONE;
        let mut square = Self {
            mantissa: base,
            steps: 0,
        }
        .settled();
        while exponent > 0 {
            if exponent & 1 == 1 {
                result = result.times(square);
            }
            square = square.times(square);
            exponent >>= 1;
        }
        result
    }
}

/// Says whether at most `failures` of `sample` turn up with a probability of at most `doubt` when
/// each person succeeds with probability `share`.
fn tail_at_most(failures: u64, sample: u64, share: f64, doubt: f64) -> bool {
    let odds = (1.0 - share) / share;
    let base = Scaled::power(share, sample);
    // Invariant: the tail so far is `base × sum`, and both `term` and `sum` carry `steps`.
    let (mut term, mut sum, mut steps) = (1.0_f64, 1.0_f64, 0_i64);
    for done in 0..failures {
        term *= float(sample - done) / float(done + 1) * odds;
        sum += term;
        if sum > 2f64.powi(STEP / 2) {
            let down = 2f64.powi(-STEP);
            term *= down;
            sum *= down;
            steps += 1;
        }
    }
    let tail = base.times(Scaled {
        mantissa: sum,
        steps,
    });
    match tail.steps {
        0 => tail.mantissa <= doubt,
        steps if steps < 0 => true,
        _ => false,
    }
}

/// Counts of people fit a float exactly up to 2^53; this splits larger ones without a cast.
fn float(count: u64) -> f64 {
    let high = u32::try_from(count >> 32).unwrap_or(u32::MAX);
    let low = u32::try_from(count & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ppm(text: &str) -> Ppm {
        text.parse().unwrap()
    }

    /// Reference figures: the tail summed in rational arithmetic and solved by bisection: the
    /// one-sided 95 % bound.
    #[test]
    fn the_bound_agrees_with_published_figures() {
        for (successes, sample, low) in [
            (299, 299, 0.990_031),
            (10, 10, 0.741_134),
            (995, 1000, 0.989_516),
            (9, 10, 0.605_837),
        ] {
            let bound = lower_bound(successes, sample, Ppm::percent(95)).fraction();
            assert!(
                (bound - low).abs() < 2e-6,
                "{successes}/{sample}: {bound} is not {low}"
            );
        }
    }

    #[test]
    fn nineteen_in_twenty_needs_59_without_a_failure() {
        assert_eq!(sample_needed(ppm("95%"), ppm("95%")), Some(59));
        assert_eq!(sample_needed(ppm("99%"), ppm("95%")), Some(299));
        assert_eq!(sample_needed(ppm("99.5%"), ppm("95%")), Some(598));
        assert_eq!(sample_needed(ppm("100%"), ppm("95%")), None);
    }

    #[test]
    fn a_bare_ratio_is_not_enough() {
        assert!(!is_shown(20, 20, ppm("95%"), ppm("95%")));
        assert!(is_shown(59, 59, ppm("95%"), ppm("95%")));
        assert!(!is_shown(990, 1000, ppm("99%"), ppm("95%")));
    }

    #[test]
    fn nobody_shows_nothing() {
        assert!(!is_shown(0, 0, ppm("1%"), ppm("95%")));
        assert_eq!(lower_bound(0, 10, ppm("95%")).get(), 0);
    }

    #[test]
    fn one_and_a_half_million_people_do_not_underflow() {
        let n = 1_500_000;
        assert!(is_shown(n - 14_000, n, ppm("99%"), ppm("95%")));
        assert!(!is_shown(n - 14_990, n, ppm("99%"), ppm("95%")));
        assert!(is_shown(n / 2, n, ppm("49%"), ppm("95%")));
    }

    #[test]
    fn one_more_success_never_shows_less() {
        for sample in [60, 400, 2000] {
            let mut was_shown = false;
            for successes in 0..=sample {
                let shown = is_shown(successes, sample, ppm("95%"), ppm("95%"));
                assert!(shown || !was_shown, "{successes} of {sample}");
                was_shown = shown;
            }
            assert!(was_shown);
        }
    }
}
