//! The one pattern of names: `*` stands for any run of characters, `?` for one. Nothing else is special.

/// Whether a whole name fits a pattern. Letters' case counts.
#[must_use]
pub fn fits(pattern: &str, name: &str) -> bool {
    // The part of the pattern and of the name that are still to be fitted, and where to go on after the last `*`.
    let (mut pattern, mut name) = (pattern.chars(), name.chars());
    let mut star = None;
    loop {
        match (pattern.next(), name.clone().next()) {
            (Some('*'), _) => {
                star = Some((pattern.clone(), name.clone()));
                continue;
            }
            (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {
                name.next();
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        // It does not fit here: the last `*` takes one character more.
        let Some((behind, mut rest)) = star else { return false };
        if rest.next().is_none() {
            return false;
        }
        pattern = behind.clone();
        name = rest.clone();
        star = Some((behind, rest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pattern_fits_whole_names() {
        let rows = [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("gpt-*", "gpt-4o", true),
            ("gpt-*", "a-gpt-4o", false),
            ("*-mini", "gpt-4o-mini", true),
            ("*-mini", "gpt-4o-mini-2", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("é*", "été", true),
            ("[a]", "a", false),
        ];
        for (pattern, name, wanted) in rows {
            assert_eq!(fits(pattern, name), wanted, "{pattern} {name}");
        }
    }

    /// The plainest matcher: every way is tried.
    fn naive(pattern: &[char], name: &[char]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), _) => naive(rest, name) || name.split_first().is_some_and(|(_, name)| naive(pattern, name)),
            (Some((wanted, rest)), Some((found, name))) => (*wanted == '?' || wanted == found) && naive(rest, name),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn it_fits_as_trying_every_way_does(pattern in "[ab*?]{0,8}", name in "[ab]{0,8}") {
            let (wide, long): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
            prop_assert_eq!(fits(&pattern, &name), naive(&wide, &long));
        }
    }
}
