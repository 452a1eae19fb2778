//! What an attachment asks of its plugins beside the configuration.

use clap::Args;
use serde_json::{Map, Value};

use crate::cni::args::CniArgs;
use crate::cni::inject::Asked;
use crate::fault::{Fault, Kind, Result};

/// `--ip`, `--mac`, `--cap-args`, `--cni-args`.
#[derive(Clone, Debug, Default, Args)]
pub struct AskedArgs {
    /// Address to ask for (capability ips), may be repeated
    #[arg(long = "ip", value_name = "ADDRESS")]
    ips: Vec<String>,
    /// MAC to ask for (capability mac)
    #[arg(long, value_name = "MAC")]
    mac: Option<String>,
    /// Capability arguments, as cnitool takes them
    #[arg(long = "cap-args", env = "CAP_ARGS", value_name = "JSON", hide_env = true)]
    capabilities: Option<String>,
    /// CNI_ARGS for the plugins
    #[arg(long = "cni-args", env = "CNI_ARGS", value_name = "K=V;K=V", hide_env = true)]
    args: Option<String>,
}

impl AskedArgs {
    /// Reads what is asked.
    pub fn read(&self) -> Result<Asked> {
        let text = self.capabilities.as_deref().filter(|text| !text.is_empty()).unwrap_or("{}");
        let parsed: std::result::Result<Map<String, Value>, _> = serde_json::from_str(text);
        let mut capabilities = parsed.map_err(|error| {
            let fault = Fault::from_error(Kind::InvalidArgument, error).doing("reading --cap-args");
            fault.hint(r#"for example {"mac":"02:00:00:00:00:01"}"#)
        })?;
        let mut asked = Asked { args: CniArgs::parse(self.args.as_deref().unwrap_or_default())?, ..Asked::default() };
        note(&mut capabilities, &self.ips, self.mac.as_deref())?;
        asked.capabilities = capabilities;
        Ok(asked)
    }
}

/// Notes addresses and a MAC among the capability arguments.
pub fn note(capabilities: &mut Map<String, Value>, ips: &[String], mac: Option<&str>) -> Result<()> {
    if !ips.is_empty() {
        for ip in ips {
            let address = ip.split_once('/').map_or(ip.as_str(), |(address, _)| address);
            address.parse::<std::net::IpAddr>().map_err(|_| Fault::invalid(format!("{ip:?} is not an IP address")))?;
        }
        capabilities.insert("ips".to_owned(), ips.into());
    }
    if let Some(mac) = mac {
        let mac: crate::ids::Mac = mac.parse()?;
        capabilities.insert("mac".to_owned(), mac.to_string().into());
    }
    Ok(())
}
