//! Who the process is: the USER of an image or `--user`, looked up in the text of the image's own passwd and group files.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::fault::{Fault, Kind, Result, cut};

/// The most groups a process can have. *Source:* NGROUPS_MAX of Linux.
pub const MAX_GROUPS: usize = 65_536;

/// The largest id that is accepted. *Source:* CVE-2024-40635: larger ones wrapped and became root.
pub const MAX_ID: u32 = 2_147_483_647;

/// The numbers a process runs with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// All groups in ascending order, the primary one always among them (CVE-2022-36109, CVE-2023-25173).
    pub groups: Vec<u32>,
}

impl Identity {
    /// Root, in group 0 alone.
    pub fn root() -> Self {
        Identity { uid: 0, gid: 0, groups: vec![0] }
    }
}

/// The text of an image's account files; empty where the image has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// `/etc/passwd`.
    pub passwd: String,
    /// `/etc/group`.
    pub group: String,
}

/// Resolves `user` (`user`, `uid`, `user:group`, `uid:gid` and mixtures; empty is uid 0) and `--group-add` values.
///
/// Without a group the primary group comes from passwd and the supplementary ones from the group file; with a group the
/// image's supplementary groups are ignored. A numeric uid that passwd does not know has gid 0 and no groups.
/// *Errors:* `NotFound` for a name the image does not have, `InvalidArgument` for a number above 2^31-1, a negative number
/// or a malformed value. *Source:* image-spec config.md; Docker, containerd.
pub fn resolve(user: &str, accounts: &Accounts, added: &[String]) -> Result<Identity> {
    let (user_part, group_part) = match user.split_once(':') {
        Some((user_part, group_part)) => (user_part, Some(group_part).filter(|part| !part.is_empty())),
        None => (user, None),
    };
    if group_part.is_some_and(|part| part.contains(':')) {
        return Err(
            Fault::invalid(format!("user {:?} is not USER or USER:GROUP", cut(user))).hint("give names or numbers, such as 1000:1000")
        );
    }
    let account = find_account(user_part, &accounts.passwd)?;
    let mut groups = BTreeSet::new();
    let gid = match group_part {
        Some(group) => find_group(group, &accounts.group)?,
        None => {
            if let Some(name) = account.name {
                collect_memberships(name, &accounts.group, &mut groups)?;
            }
            account.gid
        }
    };
    for group in added {
        groups.insert(find_group(group, &accounts.group)?);
    }
    groups.insert(gid);
    if groups.len() > MAX_GROUPS {
        return Err(too_many_groups());
    }
    Ok(Identity { uid: account.uid, gid, groups: groups.into_iter().collect() })
}

/// The groups that the group file names `user` (a name or a number) a member of; his primary one only where it does so too.
pub fn memberships(user: &str, accounts: &Accounts) -> Result<Vec<u32>> {
    let mut groups = BTreeSet::new();
    if let Some(name) = find_account(user, &accounts.passwd)?.name {
        collect_memberships(name, &accounts.group, &mut groups)?;
    }
    Ok(groups.into_iter().collect())
}

/// One row of passwd, as far as it matters.
struct Account<'a> {
    name: Option<&'a str>,
    uid: u32,
    gid: u32,
}

fn find_account<'a>(text: &str, passwd: &'a str) -> Result<Account<'a>> {
    let number = if text.is_empty() { Some(0) } else { parse_id(text, "user")? };
    for row in passwd.lines() {
        let mut fields = row.split(':');
        let (Some(name), Some(_), Some(uid), Some(gid)) = (fields.next(), fields.next(), fields.next(), fields.next()) else { continue };
        let matches = match number {
            Some(number) => uid.parse() == Ok(number),
            None => name == text,
        };
        if matches {
            let uid = parse_id(uid, "user")?.ok_or_else(|| damaged(row, "passwd"))?;
            let gid = parse_id(gid, "group")?.ok_or_else(|| damaged(row, "passwd"))?;
            return Ok(Account { name: Some(name), uid, gid });
        }
    }
    match number {
        Some(uid) => Ok(Account { name: None, uid, gid: 0 }),
        None => Err(Fault::not_found(format!("user {:?} is not in /etc/passwd of the image", cut(text))).hint("give a number with --user")),
    }
}

fn find_group(text: &str, group: &str) -> Result<u32> {
    if let Some(gid) = parse_id(text, "group")? {
        return Ok(gid);
    }
    let row = group.lines().find(|row| row.split(':').next() == Some(text));
    let row = row.ok_or_else(|| Fault::not_found(format!("group {:?} is not in /etc/group of the image", cut(text))))?;
    row.split(':').nth(2).and_then(|gid| parse_id(gid, "group").transpose()).unwrap_or_else(|| Err(damaged(row, "group")))
}

fn collect_memberships(name: &str, group: &str, into: &mut BTreeSet<u32>) -> Result<()> {
    for row in group.lines() {
        let Some(members) = row.split(':').nth(3) else { continue };
        if !members.split(',').any(|member| member == name) {
            continue;
        }
        if let Some(gid) = row.split(':').nth(2).map_or(Ok(None), |gid| parse_id(gid, "group"))? {
            into.insert(gid);
        }
        if into.len() > MAX_GROUPS {
            return Err(too_many_groups());
        }
    }
    Ok(())
}

/// Reads a number; `None` for a name. What looks like a number but is out of range is never taken for a name.
fn parse_id(text: &str, what: &str) -> Result<Option<u32>> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        if text.is_empty() || text.chars().any(|c| c.is_control() || c == ',' || c.is_whitespace()) {
            return Err(Fault::invalid(format!("{what} {:?} is neither a name nor a number", cut(text))));
        }
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id <= MAX_ID && digits.len() == text.len() => Ok(Some(id)),
        _ => Err(Fault::invalid(format!("{what} id {} is not between 0 and {MAX_ID}", cut(text)))),
    }
}

fn damaged(row: &str, file: &str) -> Fault {
    let row: String = row.chars().take(80).collect();
    Fault::new(Kind::InvalidArgument, format!("line {row:?} of /etc/{file} of the image has no valid ids"))
}

fn too_many_groups() -> Fault {
    Fault::invalid(format!("the user is in more than {MAX_GROUPS} groups of the image"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/srv:/bin/false\nwide:x:4294967296:0::/:/\nshort:x\n".to_owned(),
            group: "root:x:0:root\nadm:x:4:web,root\nwww:x:33:\nlog:x:70:web\nbad:x:no:web2\n".to_owned(),
        }
    }

    fn ids(user: &str) -> (u32, u32, Vec<u32>) {
        let id = resolve(user, &accounts(), &[]).unwrap();
        (id.uid, id.gid, id.groups)
    }

    #[test]
    fn every_form_of_user_resolves() {
        assert_eq!(ids(""), (0, 0, vec![0, 4]));
        assert_eq!(ids("0"), (0, 0, vec![0, 4]));
        assert_eq!(ids("web"), (33, 33, vec![4, 33, 70]));
        assert_eq!(ids("33"), (33, 33, vec![4, 33, 70]));
        assert_eq!(ids("web:adm"), (33, 4, vec![4]));
        assert_eq!(ids("web:7"), (33, 7, vec![7]));
        assert_eq!(ids("1000"), (1000, 0, vec![0]));
        assert_eq!(ids("1000:www"), (1000, 33, vec![33]));
        assert_eq!(ids("web:"), (33, 33, vec![4, 33, 70]));
        assert_eq!(ids(":adm"), (0, 4, vec![4]));
        let added = resolve("web:7", &accounts(), &["log".to_owned(), "9".to_owned()]).unwrap();
        assert_eq!(added.groups, [7, 9, 70]);
    }

    #[test]
    fn what_is_out_of_range_never_becomes_another_user() {
        for bad in ["4294967296", "2147483648", "-1", "+0", "99999999999999999999", "0:4294967296", "a:b:c", "wide", "a b", "x\n", "web:-1"]
        {
            assert!(resolve(bad, &accounts(), &[]).is_err(), "{bad:?}");
        }
        assert_eq!(resolve("nobody", &accounts(), &[]).unwrap_err().kind(), Kind::NotFound);
        assert_eq!(resolve("web:nogroup", &accounts(), &[]).unwrap_err().kind(), Kind::NotFound);
    }

    #[test]
    fn a_flood_of_groups_is_refused() {
        let group = (0..70_000).map(|gid| format!("g{gid}:x:{gid}:root\n")).collect();
        let flood = Accounts { passwd: "root:x:0:0:::\n".to_owned(), group };
        assert!(resolve("", &flood, &[]).unwrap_err().to_string().contains("65536"));
    }
}
