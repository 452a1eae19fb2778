//! As whom a process runs.

use serde::Deserialize;

use crate::fault::{Fault, Result};

/// The largest id. *Source:* as for `USER` of an image: larger ones wrapped and became root (CVE-2024-40635).
const MAX_ID: i64 = 2_147_483_647;

/// `SupplementalGroupsPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum GroupsPolicy {
    /// The groups of the image's group file too.
    #[default]
    Merge,
    /// Only those that are named.
    Strict,
}

/// As whom a process is to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// A number or a name; `None` is the image's.
    pub user: Option<String>,
    /// The primary group; `None` is the user's.
    pub group: Option<u32>,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Whether those of the image come too.
    pub policy: GroupsPolicy,
}

/// What a security context says of it, unread.
pub(super) struct Said<'a> {
    pub user: Option<i64>,
    pub name: &'a str,
    pub group: Option<i64>,
    pub groups: &'a [i64],
    pub policy: GroupsPolicy,
}

impl Said<'_> {
    /// Reads it; `path` is that of the security context.
    ///
    /// *Errors:* `InvalidArgument` for a number that is no id, user and user name together, a group without a user.
    pub fn read(&self, path: &str) -> Result<Who> {
        let id = |name: &str, number: i64| match u32::try_from(number) {
            Ok(id) if number <= MAX_ID => Ok(id),
            _ => Err(Fault::invalid(format!("{path}.{name}: {number} is not between 0 and {MAX_ID}"))),
        };
        if self.user.is_some() && !self.name.is_empty() {
            return Err(Fault::invalid(format!("{path}.run_as_username: run_as_user is there too")).hint("give one of them"));
        }
        if self.group.is_some() && self.user.is_none() && self.name.is_empty() {
            return Err(Fault::invalid(format!("{path}.run_as_group: it needs run_as_user or run_as_username")));
        }
        if self.name.contains(':') {
            return Err(
                Fault::invalid(format!("{path}.run_as_username: {:?} is no name", self.name)).hint("the group goes to run_as_group")
            );
        }
        let user = self.user.map(|number| id("run_as_user", number)).transpose()?;
        let groups = self.groups.iter().enumerate().map(|(nth, group)| id(&format!("supplemental_groups[{nth}]"), *group));
        Ok(Who {
            user: user.map(|id| id.to_string()).or_else(|| (!self.name.is_empty()).then(|| self.name.to_owned())),
            group: self.group.map(|number| id("run_as_group", number)).transpose()?,
            groups: groups.collect::<Result<_>>()?,
            policy: self.policy,
        })
    }
}
