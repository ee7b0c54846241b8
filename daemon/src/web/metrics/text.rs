//! PURE: Prometheus' text format 0.0.4 (prometheus.io, "Exposition formats").

use std::fmt::{Display, Write};

/// What a family of samples is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// It only grows, until the daemon or its account is made anew.
    Counter,
    /// It goes up and down.
    Gauge,
    /// A count and a sum.
    Summary,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Summary => "summary",
        }
    }
}

/// A text under way. Writing to a string cannot fail.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    /// Begins a family; its samples follow. A family without samples is left out by whoever writes it.
    pub(super) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        self.0.push_str("# HELP ");
        self.0.push_str(name);
        self.0.push(' ');
        escape(&mut self.0, help, &['\\', '\n']);
        let _ = writeln!(self.0, "\n# TYPE {name} {}", kind.name());
    }

    /// One sample.
    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            self.0.push(if at == 0 { '{' } else { ',' });
            self.0.push_str(label);
            self.0.push_str("=\"");
            escape(&mut self.0, text, &['\\', '\n', '"']);
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

fn escape(out: &mut String, text: &str, escaped: &[char]) {
    for letter in text.chars() {
        match letter {
            '\n' => out.push_str("\\n"),
            _ => {
                if escaped.contains(&letter) {
                    out.push('\\');
                }
                out.push(letter);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_help_are_escaped() {
        let mut text = Text::default();
        text.family("a_total", Kind::Counter, "A \\ B\nC \"d\".");
        text.sample("a_total", &[("agent", "x\\y\n\"z\"")], 1);
        text.sample("a_total", &[("agent", "é{},="), ("rule", "")], "0.5");
        text.sample("a_total", &[], u64::MAX);
        let wanted = "\
# HELP a_total A \\\\ B\\nC \"d\".
# TYPE a_total counter
a_total{agent=\"x\\\\y\\n\\\"z\\\"\"} 1
a_total{agent=\"é{},=\",rule=\"\"} 0.5
a_total 18446744073709551615
";
        assert_eq!(text.finish(), wanted);
    }
}
