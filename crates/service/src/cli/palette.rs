//! Colours and glyphs. A state is never shown by colour alone: a glyph and a word go with it.

/// Whether to colour, decided once when the command starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Palette {
    on: bool,
}

/// What a piece of text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// It goes well.
    Good,
    /// Somebody should look.
    Warn,
    /// It stands, or went wrong.
    Bad,
    /// Less important.
    Dim,
    /// More important.
    Strong,
}

impl Palette {
    /// No colour at all.
    pub const PLAIN: Self = Self { on: false };

    /// Colour when standard output is a terminal that wants it (`NO_COLOR` and `TERM=dumb` do not).
    #[must_use]
    pub fn detect() -> Self {
        Self {
            on: console::colors_enabled(),
        }
    }

    /// Paints a text.
    #[must_use]
    pub fn paint(self, tone: Tone, text: &str) -> String {
        if !self.on {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "1;31",
            Tone::Dim => "2",
            Tone::Strong => "1",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// Returns the glyph and the tone of a status of a rollout or the state of a wave.
#[must_use]
pub fn mark(state: &str) -> (char, Tone) {
    match state {
        "completed" | "passed" => ('✔', Tone::Good),
        "running" | "open" | "draining" | "preparing" => ('▶', Tone::Good),
        "soaking" => ('◷', Tone::Good),
        "paused" | "held" | "gated" | "awaiting_gate" | "awaiting_approval" => ('॥', Tone::Warn),
        "halted" | "failed" => ('■', Tone::Bad),
        "cancelled" => ('✖', Tone::Bad),
        _ => ('·', Tone::Dim),
    }
}
