//! What nf_tables was asked, and what it answered instead of an ACK.

use std::fmt;

use nix::errno::Errno;

use crate::fault::{Fault, Kind, kind_of_errno};
use crate::sys::netlink::{ChannelError, Refusal};

/// One request, with its arguments, as errors show it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum NftRequest {
    Generation,
    FindTable,
    ListChains,
    ListRules { chain: String },
    ListElements { map: &'static str },
    FindElement { map: &'static str, address: String },
    AddTable,
    DeleteTable,
    AddMap { map: &'static str },
    AddChain { chain: String },
    FlushChain { chain: String },
    DeleteChain { chain: String },
    AddRule { chain: String },
    AddElement { map: &'static str, address: String },
    DeleteElement { map: &'static str, address: String },
    Other { what: String },
    Commit,
}

impl fmt::Display for NftRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = super::TABLE;
        match self {
            NftRequest::Generation => write!(f, "read the nft generation"),
            NftRequest::FindTable => write!(f, "look up nft table inet {t}"),
            NftRequest::ListChains => write!(f, "list nft chains of inet {t}"),
            NftRequest::ListRules { chain } => write!(f, "list nft rules of inet {t} {chain}"),
            NftRequest::ListElements { map } => write!(f, "list nft map inet {t} {map}"),
            NftRequest::FindElement { map, address } => write!(f, "look up {address} in nft map inet {t} {map}"),
            NftRequest::AddTable => write!(f, "add nft table inet {t}"),
            NftRequest::DeleteTable => write!(f, "delete nft table inet {t}"),
            NftRequest::AddMap { map } => write!(f, "add nft map inet {t} {map}"),
            NftRequest::AddChain { chain } => write!(f, "add nft chain inet {t} {chain}"),
            NftRequest::FlushChain { chain } => write!(f, "flush nft chain inet {t} {chain}"),
            NftRequest::DeleteChain { chain } => write!(f, "delete nft chain inet {t} {chain}"),
            NftRequest::AddRule { chain } => write!(f, "add nft rule inet {t} {chain}"),
            NftRequest::AddElement { map, address } => write!(f, "add {address} to nft map inet {t} {map}"),
            NftRequest::DeleteElement { map, address } => write!(f, "delete {address} from nft map inet {t} {map}"),
            NftRequest::Other { what } => f.write_str(what),
            NftRequest::Commit => write!(f, "commit the nft transaction"),
        }
    }
}

/// What nf_tables answered.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The kernel refused one request, and with it the whole transaction.
    #[error("{request}: {errno}{note}", errno = .refusal.errno, note = .refusal.note.as_ref().map_or(String::new(), |n| format!(" ({n})")))]
    Refused {
        /// What was asked.
        request: NftRequest,
        /// What the kernel answered.
        refusal: Refusal,
    },
    /// The exchange did not take place.
    #[error("{request}: {source}")]
    Exchange {
        /// What was asked.
        request: NftRequest,
        /// Why not.
        source: ChannelError,
    },
    /// No socket.
    #[error("nf_tables: {0}")]
    Open(ChannelError),
    /// Others changed the ruleset again and again between a look and the change that rests on it.
    #[error("the nft ruleset kept changing")]
    Unsettled,
}

impl NftError {
    /// What the kernel answered, when it was asked.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            NftError::Refused { refusal, .. } => Some(refusal.errno),
            NftError::Exchange { source, .. } | NftError::Open(source) => source.errno(),
            NftError::Unsettled => None,
        }
    }
}

impl NftError {
    /// Whether the kernel has no nf_tables at all (none built, no module), rather than not what was asked for.
    ///
    /// *Source:* the kernel's `nfnetlink_rcv_msg` (`EINVAL` for a request to a subsystem that nobody serves), `nfnetlink_rcv_batch`
    /// (`EOPNOTSUPP`), `netlink_create` (`EPROTONOSUPPORT` without nfnetlink). A read of ours is never invalid in itself.
    pub fn is_absence(&self) -> bool {
        let is_read = |request: &NftRequest| {
            use NftRequest::{FindElement, FindTable, Generation, ListChains, ListElements, ListRules};
            matches!(request, Generation | FindTable | ListChains | ListRules { .. } | ListElements { .. } | FindElement { .. })
        };
        match self {
            NftError::Open(source) => matches!(source.errno(), Some(Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT)),
            NftError::Refused { request, refusal } => match refusal.errno {
                Errno::EINVAL => is_read(request),
                Errno::EOPNOTSUPP => *request == NftRequest::Commit,
                _ => false,
            },
            NftError::Exchange { .. } | NftError::Unsettled => false,
        }
    }
}

fn absence(error: &NftError) -> Fault {
    let message =
        format!("this kernel has no nf_tables ({error}): without it rkbox neither masquerades, nor publishes ports, nor guards bridges");
    Fault::new(Kind::FailedPrecondition, message)
        .hint("load it: modprobe nf_tables; rules of iptables are no substitute, rkbox makes none for this")
        .hint("or do without: no -p, and a network with \"ipMasq\": false and \"guard\": false, or --net none or host")
}

impl From<NftError> for Fault {
    fn from(error: NftError) -> Fault {
        let kind = match (&error, error.errno()) {
            (NftError::Unsettled, _) | (_, Some(Errno::ERESTART)) => Kind::Conflict,
            _ if error.is_absence() => return absence(&error),
            (_, Some(Errno::EPERM | Errno::EACCES)) => {
                let fault = Fault::new(Kind::PermissionDenied, format!("nf_tables is denied here: {error}"));
                return fault
                    .hint("rkbox needs CAP_NET_ADMIN over this network namespace: a container or service that runs it must be given that");
            }
            (_, Some(errno)) => kind_of_errno(errno),
            (_, None) => Kind::Internal,
        };
        Fault::from_error(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_nf_tables_is_told_from_one_that_refuses() {
        let refused = |request, errno| NftError::Refused { request, refusal: Refusal { errno, note: None } };
        for absent in [
            refused(NftRequest::FindTable, Errno::EINVAL),
            refused(NftRequest::ListElements { map: "masq" }, Errno::EINVAL),
            refused(NftRequest::Commit, Errno::EOPNOTSUPP),
            NftError::Open(ChannelError::Open(Errno::EPROTONOSUPPORT)),
        ] {
            let fault = Fault::from(absent);
            assert_eq!(fault.kind(), Kind::FailedPrecondition, "{fault}");
            assert!(fault.to_string().starts_with("this kernel has no nf_tables ("), "{fault}");
            assert!(
                fault.hints()[0].contains("modprobe nf_tables") && fault.hints()[1].contains("\"ipMasq\": false"),
                "{:?}",
                fault.hints()
            );
        }
        for present in [
            refused(NftRequest::FindTable, Errno::ENOENT),
            refused(NftRequest::AddRule { chain: "x".to_owned() }, Errno::EINVAL),
            refused(NftRequest::AddRule { chain: "x".to_owned() }, Errno::EOPNOTSUPP),
            NftError::Unsettled,
        ] {
            assert!(!present.is_absence(), "{present}");
        }
        let denied = Fault::from(refused(NftRequest::Generation, Errno::EPERM));
        assert_eq!(denied.kind(), Kind::PermissionDenied);
        assert!(denied.to_string().contains("denied here") && denied.hints()[0].contains("CAP_NET_ADMIN"), "{denied}");
    }
}
