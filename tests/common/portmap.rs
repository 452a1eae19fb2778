//! A network whose list ends with portmap.

/// Shell that configures the network `chain`; of IPv4 alone, whose routes the kernel does not add in its own time.
pub const CONFIGURE: &str = r#"mkdir -p $HOME/cni-conf; cat >$HOME/cni-conf/20-chain.conflist <<'EOF'
{"cniVersion": "1.0.0", "name": "chain", "plugins": [{"type": "bridge", "bridge": "brc", "isGateway": true, "ipMasq": true, "hairpinMode": true,
"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.76.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
{"type": "portmap", "capabilities": {"portMappings": true}}]}
EOF
"#;
