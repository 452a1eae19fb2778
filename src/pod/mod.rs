//! Kubernetes and CRI shapes: the configurations of crictl, what kubeadm and manifests say of images. Pure, no I/O.

pub mod cri;
pub mod kubeadm;
mod kubeadm_fields;
pub mod manifests;
pub mod release;
pub mod versions;
pub mod yaml;
