//! Keeps what other people wrote from steering the terminal of whoever reads it.
//!
//! Names, reasons, directory ids and the messages of targets come from anywhere. A control character in them
//! could clear the screen, colour a halt green or turn the text around: it is shown, and does nothing.

use serde_json::Value;

/// Makes every text of an answer harmless on a terminal.
pub fn tame(value: &mut Value) {
    match value {
        Value::String(text) if text.contains(is_wild) => *text = tamed(text),
        Value::Array(items) => items.iter_mut().for_each(tame),
        Value::Object(fields) => fields.values_mut().for_each(tame),
        _ => {}
    }
}

/// Returns a text with each wild character written out, such as `\u{1b}`.
#[must_use]
pub fn tamed(text: &str) -> String {
    let mut tame = String::with_capacity(text.len());
    for character in text.chars() {
        if is_wild(character) {
            tame.extend(character.escape_default());
        } else {
            tame.push(character);
        }
    }
    tame
}

/// Control characters (C0, DEL, C1), and those that turn the direction of writing around.
fn is_wild(character: char) -> bool {
    character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_written_out_and_all_else_stays() {
        let mut value =
            serde_json::json!({"name": "zoë 王\u{1b}[2J", "more": ["a\nb", "\u{202e}evil", 7]});
        tame(&mut value);
        let expected =
            serde_json::json!({"name": "zoë 王\\u{1b}[2J", "more": ["a\\nb", "\\u{202e}evil", 7]});
        assert_eq!(value, expected);
    }
}
