//! Door nft.
