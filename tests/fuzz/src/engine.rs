//! The property-test half of a target: its corpus, the corpus with changes, and bytes out of the blue, as a bolero engine for stable.
//!
//! One seed makes one plan, and is printed: `AEX_FUZZ_SEED` makes it again, `AEX_FUZZ_RUNS` says how many inputs are tried. bolero's own
//! engine throws new dice at each start and does not change what the corpus holds. Must not: know what a target checks.

use crate::dice::Dice;
use bolero::{Engine, Test};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Inputs of a target beside its corpus, when nothing is said.
const RUNS: u64 = 30_000;
/// The plan of every day: CI finds the same twice.
const SEED: u64 = 1;
/// The longest input that is made, in bytes.
const LONGEST: usize = 4096;

/// One target's plan.
#[derive(Debug)]
pub struct Seeded {
    name: &'static str,
}

impl Seeded {
    /// For the target whose corpus has this name.
    #[must_use]
    pub const fn new(name: &'static str) -> Seeded {
        Seeded { name }
    }
}

/// Where the corpus of a target lies.
#[must_use]
pub fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name)
}

impl<T: Test> Engine<T> for Seeded {
    type Output = ();

    fn run(self, mut test: T, options: bolero::generator::bolero_generator::driver::Options) {
        let seed = variable("AEX_FUZZ_SEED").unwrap_or(SEED);
        let runs = variable("AEX_FUZZ_RUNS").unwrap_or(RUNS);
        let seeds = files(&corpus(self.name));
        assert!(!seeds.is_empty(), "{}: no corpus in {}", self.name, corpus(self.name).display());
        let mut check = |input: &[u8], whence: &str| {
            let mut slice = input;
            if let Err(fault) = test.test(&mut slice) {
                let smaller = test.shrink(input.to_vec(), None, &options);
                let shown = smaller.map_or_else(|| fault.to_string(), |smaller| smaller.error.to_string());
                let kept = keep(self.name, input);
                panic!("{}: {whence}: {shown}\nAEX_FUZZ_SEED={seed}; the input is kept in {kept}", self.name);
            }
        };
        for (path, bytes) in &seeds {
            check(bytes, &path.display().to_string());
        }
        let mut random = Random(seed);
        for run in 0..runs {
            let input = random.input(&seeds);
            check(&input, &format!("run {run}"));
        }
        let all = runs + seeds.len() as u64;
        let line = format!("fuzz {}: {all} executions, {} of them from the corpus, seed {seed}\n", self.name, seeds.len());
        // Past the test harness, which hides what a test that passes prints.
        std::io::stderr().write_all(line.as_bytes()).expect("standard error");
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The files of a folder, in the order of their names.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<(PathBuf, Vec<u8>)> = entries.filter_map(|entry| Some((entry.path(), fs::read(entry.path()).ok()?))).collect();
    files.sort();
    files
}

/// Writes an input that broke a promise to where no commit takes it along; names the file.
fn keep(name: &str, input: &[u8]) -> String {
    let path = std::env::temp_dir().join(format!("fuzz-{name}"));
    match fs::write(&path, input) {
        Ok(()) => path.display().to_string(),
        Err(fault) => format!("no file ({fault}): {input:?}"),
    }
}

/// SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or(0) % end.max(1)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    /// One input: random bytes one time in four, else a changed file of the corpus.
    fn input(&mut self, seeds: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
        if self.below(4) == 0 {
            let length = self.below(512);
            return self.bytes(length);
        }
        let mut input = seeds[self.below(seeds.len())].1.clone();
        for _ in 0..=self.below(4) {
            self.change(&mut input, seeds);
        }
        input.truncate(LONGEST);
        input
    }

    /// What fuzzers do to an input: bits, bytes, pieces, and what other files hold.
    fn change(&mut self, input: &mut Vec<u8>, seeds: &[(PathBuf, Vec<u8>)]) {
        const BYTES: &[u8] = b"\"\\{}[]:,\r\n \t-0e.\0\xff\xc3nt#'&*|";
        let at = self.below(input.len() + 1);
        let end = (at + 1 + self.below(16)).min(input.len()).max(at);
        match self.below(8) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = BYTES[self.below(BYTES.len())],
            2 => input.insert(at, BYTES[self.below(BYTES.len())]),
            3 => drop(input.drain(at..end)),
            4 => {
                let piece = input[at..end].to_vec();
                let to = self.below(input.len() + 1);
                drop(input.splice(to..to, piece));
            }
            5 => input.truncate(at),
            6 => {
                let length = 1 + self.below(8);
                let bytes = self.bytes(length);
                drop(input.splice(at..at, bytes));
            }
            _ => {
                let other = &seeds[self.below(seeds.len())].1;
                let from = self.below(other.len() + 1);
                let to = (from + 1 + self.below(64)).min(other.len()).max(from);
                drop(input.splice(at..end, other[from..to].iter().copied()));
            }
        }
    }
}

/// Two dice of the same bytes, so that a target may throw again what it threw before.
#[must_use]
pub fn halves(bytes: &[u8]) -> (Dice<'_>, &[u8]) {
    let (head, body) = bytes.split_at(bytes.len().min(16));
    (Dice::new(head), body)
}
