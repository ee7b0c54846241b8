//! Profiles: named policies of the configuration, and which of them is bound to an agent.

use super::{Effective, Fallback, Fields, Origin, RuleSpec, glob};

/// One profile of policy.yaml.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name and place.
    pub origin: Origin,
    /// Patterns of agents' names that it is bound to.
    pub agents: Vec<String>,
    /// Patterns of groups' names that it is bound to.
    pub groups: Vec<String>,
    /// What happens to a call that no rule matches.
    pub default: Fallback,
    /// What it states.
    pub fields: Fields,
    /// Its rules.
    pub rules: Vec<RuleSpec>,
}

impl Profile {
    fn is_bound_to(&self, agent: &str, groups: &[String]) -> bool {
        let fits = |patterns: &[String], name: &str| patterns.iter().any(|pattern| glob::fits(pattern, name));
        fits(&self.agents, agent) || groups.iter().any(|group| fits(&self.groups, group))
    }

    /// Its name and place, for words about it.
    #[must_use]
    pub fn place(&self) -> String {
        format!("`{}` ({}:{})", self.origin.name, self.origin.file, self.origin.line)
    }

    /// Whether nothing can pass: no rule lets a call pass, and the default denies.
    #[must_use]
    pub fn denies_all(&self) -> bool {
        use super::Effect::{Allow, Limit};
        self.default == Fallback::Deny && !self.rules.iter().any(|rule| matches!(rule.effect, Allow | Limit))
    }
}

/// All profiles, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profiles(pub Vec<Profile>);

impl Profiles {
    /// The profile of an agent, if any.
    ///
    /// # Errors
    /// When two are bound to it: both, with file and line.
    pub fn bound_to(&self, agent: &str, groups: &[String]) -> Result<Option<&Profile>, [String; 2]> {
        let mut bound = self.0.iter().filter(|profile| profile.is_bound_to(agent, groups));
        match (bound.next(), bound.next()) {
            (Some(first), Some(second)) => Err([first.place(), second.place()]),
            (first, _) => Ok(first),
        }
    }
}

impl Effective {
    /// What holds for an agent: its own fields, over those of its profile, over the built-in defaults; its profile's rules.
    #[must_use]
    pub fn of(own: Fields, profile: Option<&Profile>) -> Effective {
        let stated = Some(own.snapshot().1);
        let Some(profile) = profile else { return Effective { stated, ..Effective::plain(own.resolve()) } };
        Effective {
            default: profile.default,
            fields: own.over(profile.fields.clone()).resolve(),
            profile: Some(profile.origin.clone()),
            rules: profile.rules.clone(),
            stated,
        }
    }
}
