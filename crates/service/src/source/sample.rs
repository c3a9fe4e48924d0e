//! Made-up people to try things with: the same number and seed make the same people.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

const COUNTRIES: [(&str, &str, u64); 13] = [
    ("US", "America/New_York", 46),
    ("IN", "Asia/Kolkata", 14),
    ("DE", "Europe/Berlin", 8),
    ("GB", "Europe/London", 8),
    ("JP", "Asia/Tokyo", 5),
    ("BR", "America/Sao_Paulo", 4),
    ("MX", "America/Mexico_City", 3),
    ("PL", "Europe/Warsaw", 3),
    ("CA", "America/Toronto", 3),
    ("AU", "Australia/Sydney", 2),
    ("FR", "Europe/Paris", 2),
    ("ES", "Europe/Madrid", 1),
    ("SG", "Asia/Singapore", 1),
];

const DEPARTMENTS: [(&str, u64); 15] = [
    ("Warehouse", 28),
    ("Delivery", 18),
    ("Retail", 12),
    ("Cloud", 8),
    ("Devices", 6),
    ("Finance", 5),
    ("HR", 4),
    ("Legal", 2),
    ("Marketing", 4),
    ("Support", 4),
    ("Security", 2),
    ("Research", 3),
    ("IT", 2),
    ("Ads", 1),
    ("Procurement", 1),
];

const COLUMNS: [&str; 14] = [
    "employee_id",
    "user_name",
    "email",
    "given_name",
    "family_name",
    "active",
    "department",
    "country",
    "timezone",
    "site",
    "manager_id",
    "level",
    "worker_type",
    "together_group",
];

/// A small generator of even numbers in every corner (SplitMix64, Steele, Lea and Flood 2014).
struct Draw(u64);

impl Draw {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    const fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn weighted<T: Copy>(&mut self, choices: &[(T, u64)]) -> Option<T> {
        let mut place = self.below(choices.iter().map(|(_, weight)| weight).sum::<u64>().max(1));
        for (choice, weight) in choices {
            if place < *weight {
                return Some(*choice);
            }
            place -= weight;
        }
        None
    }
}

/// Writes a file of people; its suffix says how: `.csv` or `.ndjson`, also with `.gz` or `.zst`.
/// `progress` hears now and then how many are written.
///
/// # Errors
///
/// When the file cannot be written, or the suffix says nothing.
pub fn write_file(path: &Path, people: u64, seed: u64, progress: impl Fn(u64)) -> io::Result<()> {
    let name = path.to_string_lossy().to_lowercase();
    let (stem, packing) = match (name.strip_suffix(".gz"), name.strip_suffix(".zst")) {
        (Some(stem), _) => (stem, "gz"),
        (_, Some(stem)) => (stem, "zst"),
        _ => (name.as_str(), ""),
    };
    let is_json = match stem.rsplit('.').next() {
        Some("csv") => false,
        Some("ndjson" | "jsonl") => true,
        _ => {
            return Err(io::Error::other(
                "the file must end in .csv or .ndjson, perhaps with .gz or .zst",
            ));
        }
    };
    let file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    match packing {
        "gz" => {
            let mut out = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            write_people(&mut out, people, seed, is_json, progress)?;
            out.finish()?.flush()
        }
        "zst" => {
            let mut out = zstd::stream::write::Encoder::new(file, 1)?;
            write_people(&mut out, people, seed, is_json, progress)?;
            out.finish()?.flush()
        }
        _ => {
            let mut out = file;
            write_people(&mut out, people, seed, is_json, progress)?;
            out.flush()
        }
    }
}

fn write_people(
    out: &mut impl Write,
    people: u64,
    seed: u64,
    is_json: bool,
    progress: impl Fn(u64),
) -> io::Result<()> {
    if !is_json {
        writeln!(out, "{}", COLUMNS.join(","))?;
    }
    for number in 0..people {
        let row = person(number, people, seed);
        if is_json {
            let fields = COLUMNS
                .iter()
                .zip(&row)
                .filter(|(_, value)| !value.is_empty());
            let object: serde_json::Map<String, serde_json::Value> = fields
                .map(|(name, value)| ((*name).to_owned(), value.as_str().into()))
                .collect();
            serde_json::to_writer(&mut *out, &object)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{}", row.join(","))?;
        }
        if number % 10_000 == 0 {
            progress(number);
        }
    }
    Ok(())
}

fn person(number: u64, people: u64, seed: u64) -> [String; 14] {
    let mut draw = Draw(seed.wrapping_mul(0x1000_0000_01b3) ^ number.wrapping_mul(0x9e37_79b9));
    let _ = draw.next();
    let countries = COUNTRIES.map(|(country, zone, weight)| ((country, zone), weight));
    let (country, zone) = draw
        .weighted(&countries)
        .unwrap_or(("US", "America/New_York"));
    let department = draw.weighted(&DEPARTMENTS).unwrap_or("IT");
    let key = |number: u64| format!("E{number:07}");
    // A tree of managers with nine reports each.
    let manager = if number == 0 {
        String::new()
    } else {
        key((number - 1) / 9)
    };
    let worker_type = match draw.below(100) {
        0..55 => "frontline",
        55..60 => "contractor",
        _ => "employee",
    };
    // About one in ten shares a mailbox with a few neighbours.
    let group = if draw.below(10) == 0 {
        format!("G{:06}", number / 40)
    } else {
        String::new()
    };
    let name = format!("p{number:07}");
    [
        key(number),
        name.clone(),
        format!("{name}@example.test"),
        format!("Given{}", number % 5000),
        format!("Family{}", number % 17_011),
        (draw.below(100) != 0).to_string(),
        department.to_owned(),
        country.to_owned(),
        zone.to_owned(),
        format!("{country}-S{:02}", draw.below(40)),
        manager,
        (1 + (people / (number + 1)).max(1).ilog10())
            .min(12)
            .to_string(),
        worker_type.to_owned(),
        group,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_people_and_another_makes_others() {
        assert_eq!(person(42, 1000, 1), person(42, 1000, 1));
        assert_ne!(person(42, 1000, 1), person(42, 1000, 2));
        assert_eq!(person(42, 1000, 1)[0], "E0000042");
    }
}
