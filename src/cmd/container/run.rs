//! `rkbox run`: plan, settle, start, wait, and take back with `--rm`.

use std::io::IsTerminal as _;

use super::request::{self, Facts, Net};
use super::{RunArgs, oci, run_dir, steps};
use crate::cmd::network::{self, attach, networks};
use crate::cmd::{Context, carry, image, output, publish, records, sandbox};
use crate::cni::inject::Asked;
use crate::cni::ports::PortAsk;
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::ids::{Id, IfName};
use crate::plan::{Keep, Plan, Timings, explain, reach};
use crate::record::{Attachment, ContainerRecord, SandboxRecord};
use crate::script::Script;
use crate::sys::runc::{Input, Launch};
use crate::sys::{Host, exec, file, ns, privilege, proc, runc_log};

/// Runs a container in the foreground; answers its own exit status.
pub fn run(cx: &Context, args: &RunArgs) -> Result<u8> {
    let mut timings = Timings::start();
    privilege::require()?;
    if args.container.process.tty && !args.plan.explain && !std::io::stdin().is_terminal() {
        return Err(Fault::invalid("--tty: standard input is not a terminal").hint("leave --tty out, or call rkbox from a terminal"));
    }
    let found = args.container.source.find(cx, &args.container.image, args.plan.explain)?;
    let lowers = image::store::lowers(&cx.host, &found)?;
    let joined = args.container.network.sandbox.as_deref().map(|key| ready_sandbox(&cx.host, key)).transpose()?;
    let id = Id::from_bytes(proc::random::<32>()?);
    let facts = Facts {
        args: &args.container,
        auto_remove: args.rm,
        acting: !args.plan.explain,
        id,
        image: &found,
        lowers: &lowers,
        sandbox: joined.as_ref(),
    };
    let mut made = None;
    let mut planned = |timings: &mut Timings| {
        let (plan, record) = plan(cx, &facts, timings)?;
        made = Some(record);
        Ok(plan)
    };
    if args.plan.explain {
        let plan = planned(&mut timings)?;
        let record = made.ok_or_else(|| Fault::internal("a plan without a record"))?;
        carry::show(&script(cx, args, &plan, &record)?);
        return Ok(0);
    }
    let carried = carry::carry(cx, args.plan, &mut timings, planned)?;
    let (Some(carried), Some(record)) = (carried, made) else { return Ok(0) };
    let outcome = start(&cx.host, &record, &mut timings);
    let removed = match args.rm {
        true => carried.remove(&cx.host),
        false => {
            carried.release();
            Ok(())
        }
    };
    timings.row("take back");
    carry::report(cx, args.plan, timings);
    match (outcome, removed) {
        (Ok(status), Ok(())) => Ok(status),
        (Ok(_), Err(fault)) => Err(fault),
        (Err(fault), Ok(())) => failed_start(fault),
        (Err(fault), Err(later)) => Err(fault.and_also(later)),
    }
}

/// The runtime could not start the process: 126 and 127 speak of the command, all else of rkbox.
fn failed_start(fault: StartFault) -> Result<u8> {
    output::fault(&fault.fault);
    Ok(fault.status)
}

struct StartFault {
    fault: Fault,
    status: u8,
}

impl StartFault {
    fn and_also(self, later: Fault) -> Fault {
        self.fault.and_also(later)
    }
}

fn start(host: &Host, record: &ContainerRecord, timings: &mut Timings) -> std::result::Result<u8, StartFault> {
    let tool = |fault: Fault| StartFault { fault, status: 125 };
    reach("start", 0).map_err(tool)?;
    let run = run_dir(host, &record.id);
    let launch = Launch { id: record.id.as_str(), bundle: &record.bundle, log: &run.join("runtime.log"), pid_file: &run.join("pid") };
    let input = if record.stdin || record.tty { Input::Ours } else { Input::Null };
    let ended = records::runtime(&record.runtime).run_foreground(&launch, input);
    timings.row("run the container");
    let ended = ended.map_err(|fault| {
        let status = runc_log::start_status(&fault.to_string());
        let fault = if runc_log::is_printed_too(launch.log) { Fault::new(fault.kind(), "the runtime says why above") } else { fault };
        let fault = match status {
            126 => fault.hint("the program must be an executable file that this user may execute, made for this machine"),
            127 => fault.hint("name a program that the image has, by its path or in its PATH"),
            _ => fault,
        };
        StartFault { fault: fault.doing(format!("cannot start container {}", record.name)), status }
    })?;
    let code = exec::exit_code(ended);
    if !record.auto_remove {
        let exit = serde_json::json!({ "v": 1, "finished_at": proc::now_rfc3339(), "exit_code": code, "signal": (code > 128).then(|| code - 128), "oom_killed": null, "reason": "exited" });
        file::write_atomic(&record.bundle.join("exit.json"), 0o600, exit.to_string().as_bytes(), file::Durable::Yes)
            .map_err(|error| tool(error.into()))?;
    }
    Ok(code)
}

fn ready_sandbox(host: &Host, key: &str) -> Result<SandboxRecord> {
    let id = records::find(host, records::BoxKind::Sandbox, key)?;
    let record = records::sandbox(host, &id)?;
    if sandbox::state(&record)?.pid().is_none() {
        let fault = Fault::new(Kind::FailedPrecondition, format!("sandbox {key} is not ready: its pause process does not run"));
        return Err(fault.hint(format!("make it again: rkbox sandbox rm {key} && rkbox sandbox create {key}")));
    }
    Ok(record)
}

fn plan(cx: &Context, facts: &Facts<'_>, timings: &mut Timings) -> Result<(Plan, ContainerRecord)> {
    let host = &cx.host;
    let mut attached = attach::Attached::default();
    let net = network(cx, facts, &mut attached).doing(|| "planning the network")?;
    if let Some(lock) = &attached.lock {
        timings.waited(lock.waited());
    }
    let record = request::record(cx, facts, net)?;
    let texts = oci::texts(facts, &record)?;
    let (all, network_end) = steps::steps(host, &record, texts, std::mem::take(&mut attached.steps));
    let keep = if record.auto_remove { Keep::WhileOwned } else { Keep::UntilRemoved };
    let mut plan = Plan::new(record.id.as_str(), format!("run {} in {}", facts.args.image, record.name), all).kept(keep);
    if let Some(lock) = attached.lock {
        plan = plan.release_after(network_end, lock);
    }
    Ok((plan, record))
}

fn network(cx: &Context, facts: &Facts<'_>, attached: &mut attach::Attached) -> Result<Net> {
    let (host, args) = (&cx.host, facts.args);
    let joined = |path| Net { path, owned: false, attachments: Vec::new() };
    if let Some(sandbox) = facts.sandbox {
        return Ok(joined(sandbox.netns.clone()));
    }
    if let Some(netns) = &args.network.netns {
        let path = host.netns_path(netns);
        require_netns(&path)?;
        return Ok(joined(Some(path)));
    }
    args.network.ports.refuse_without_network(args.network.network.as_deref())?;
    if args.network.network.as_deref() == Some("host") {
        return Ok(joined(None));
    }
    let name = args.name.as_ref().map_or(facts.id.short(), AsRef::as_ref);
    let netns = host.netns_path(name);
    if args.network.network.as_deref() == Some("none") {
        attached.steps.push(crate::step::Loopback { netns: netns.clone(), own_netns: true }.into());
        return Ok(Net { path: Some(netns), owned: true, attachments: Vec::new() });
    }
    let wanted = args.network.network.as_deref().map(str::parse).transpose()?;
    let conf = networks::find_network(host, wanted.as_ref())?;
    let ifname: IfName = "eth0".parse()?;
    let ask = attach::Attach {
        network: &conf,
        owner: facts.id.as_str(),
        ifname: &ifname,
        netns: &netns,
        own_netns: true,
        acting: facts.acting,
        asked: &Asked::default(),
    };
    *attached = attach::plan_attach(host, &ask)?;
    network::tell(attached);
    let asks = port_asks(facts)?;
    let ports = publish::secure(cx, &conf, attached, facts.id.as_str(), (&asks, args.network.ports.force_publish))?;
    let attachment = Attachment {
        network: conf.name.to_string(),
        ifname: ifname.to_string(),
        owner: facts.id.to_string(),
        addresses: attached.addresses.clone(),
        gateway: attached.gateway,
        result: attached.result.clone(),
        ports,
    };
    Ok(Net { path: Some(netns), owned: true, attachments: vec![attachment] })
}

/// What `-p` and `-P` ask for.
fn port_asks(facts: &Facts<'_>) -> Result<Vec<PortAsk>> {
    let mut asks = facts.args.network.ports.publish.clone();
    if facts.args.network.publish_all {
        let config = facts.image.config.config().as_ref();
        let exposed = config.and_then(|config| config.exposed_ports().clone()).unwrap_or_default();
        asks.extend(publish::exposed(&exposed)?);
    }
    Ok(asks)
}

/// The whole life as a script: make, run, and with `--rm` take back.
fn script(cx: &Context, args: &RunArgs, plan: &Plan, record: &ContainerRecord) -> Result<Script> {
    let mut script = explain::explain(plan, &cx.host)?;
    let run = run_dir(&cx.host, &record.id);
    let launch = Launch { id: record.id.as_str(), bundle: &record.bundle, log: &run.join("runtime.log"), pid_file: &run.join("pid") };
    let words = records::runtime(&record.runtime).foreground_words(&launch);
    script.blank();
    script.comment("run the container");
    let line = words.iter().map(|word| crate::script::quote(word)).collect::<Vec<_>>().join(" ");
    script.raw(&format!("status=0; {line} || status=$?"));
    if args.rm {
        explain::append_removal(plan, &mut script)?;
    } else {
        let path = crate::script::quote(&record.bundle.join("exit.json").to_string_lossy());
        script.raw("signal=null; [ \"$status\" -le 128 ] || signal=$((status - 128))");
        let form = r#"{"exit_code":%s,"finished_at":"%s","oom_killed":null,"reason":"exited","signal":%s,"v":1}"#;
        script.raw(&format!("printf '{form}' \"$status\" \"$(date -u +%Y-%m-%dT%H:%M:%S.%NZ)\" \"$signal\" > {path}"));
        script.raw(&format!("chmod 0600 {path}"));
    }
    script.raw("exit \"$status\"");
    Ok(script)
}

/// Checks that a namespace made by somebody else is there and is one.
fn require_netns(path: &std::path::Path) -> Result<()> {
    ns::open(path, ns::NsKind::Net).doing(|| "joining a network namespace")?;
    Ok(())
}
