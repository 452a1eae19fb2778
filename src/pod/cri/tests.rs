use super::schema::{Field, Form};
use super::*;
use crate::fault::Kind;
use serde_json::json;

fn pod(more: Value) -> Value {
    let mut all = json!({"metadata": {"name": "web", "namespace": "default", "uid": "u1"}});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

fn box_of(more: Value) -> Value {
    let mut all = json!({"metadata": {"name": "c"}, "image": {"image": "busybox"}});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

#[track_caller]
fn refused<T: std::fmt::Debug>(read: Result<T>) -> (Kind, String, String) {
    let fault = read.unwrap_err();
    (fault.kind(), fault.to_string(), fault.hints().join("; "))
}

/// A value of `form` that says something, and one that it cannot hold.
fn samples(form: &'static Form) -> (Value, Value) {
    match form {
        Form::Text | Form::Refused(_) => (json!("a"), json!(["a"])),
        Form::Flag => (json!(true), json!("true")),
        Form::Int(..) => (json!(7), json!("seven")),
        Form::Choice(_) => (json!(1), json!("nonsense")),
        Form::Pairs => (json!({"a": "b"}), json!(["a"])),
        Form::One(_) => (json!({}), json!("x")),
        Form::Wrapped => (json!({"value": 1}), json!(1)),
        Form::List(of) => (json!([samples(of).0]), json!([samples(of).1])),
    }
}

/// Every field of the table, with its path.
fn fields(root: &'static [Field], path: &str, out: &mut Vec<(String, &'static Form)>) {
    for (name, form) in root {
        let at = if path.is_empty() { (*name).to_owned() } else { format!("{path}.{name}") };
        match form {
            Form::One(below) => fields(below, &at, out),
            Form::List(Form::One(below)) => fields(below, &format!("{at}[0]"), out),
            _ => {}
        }
        out.push((at, form));
    }
}

/// A document with `value` at `path`.
fn at(path: &str, value: Value) -> Value {
    path.rsplit('.').fold(value, |value, part| match part.strip_suffix("[0]") {
        Some(name) => json!({ name: [value] }),
        None => json!({ part: value }),
    })
}

#[test]
fn every_field_is_taken_or_refused_by_its_path_and_wrong_values_are_told_apart() {
    for (root, least) in [(&schema::SANDBOX[..], 70), (&schema::CONTAINER[..], 80)] {
        let mut all = Vec::new();
        fields(root, "", &mut all);
        assert!(all.len() >= least, "{}", all.len());
        for (path, form) in &all {
            let (good, bad) = samples(form);
            let root = if root.len() == 9 { &schema::SANDBOX[..] } else { &schema::CONTAINER[..] };
            let taken = read::normal(&at(path, good), root);
            if matches!(form, Form::Refused(_)) {
                let (kind, text, _) = refused(taken);
                assert!(kind == Kind::Unimplemented && text.starts_with(&format!("{path}: ")), "{path}: {text}");
                assert!(read::normal(&at(path, json!([])), root).is_ok(), "{path}: what says nothing is taken");
                continue;
            }
            taken.unwrap_or_else(|fault| panic!("{path}: {fault}"));
            let (kind, text, _) = refused(read::normal(&at(path, bad), root));
            assert!(kind == Kind::InvalidArgument && text.starts_with(path.as_str()), "{path}: {text}");
            assert!(read::normal(&at(path, Value::Null), root).is_ok());
        }
    }
}

/// What the table takes alone changes the configuration: the types have the same fields.
fn in_the_types<T: DeserializeOwned + Default + std::fmt::Debug>(root: &'static [Field]) {
    let mut all = Vec::new();
    fields(root, "", &mut all);
    let nothing = format!("{:?}", T::default());
    for (path, form) in all.iter().filter(|(_, form)| !matches!(form, Form::Refused(_) | Form::One(_))) {
        let read: T = typed(read::normal(&at(path, samples(form).0), root).unwrap()).unwrap();
        // A message that is there is something already: what is in it must be there too.
        let emptied = path.rsplit_once('.').map(|(above, _)| typed::<T>(read::normal(&at(above, json!({})), root).unwrap()));
        let emptied = emptied.map_or_else(|| nothing.clone(), |read| format!("{:?}", read.unwrap()));
        assert_ne!(format!("{read:?}"), emptied, "{path}");
    }
}

#[test]
fn what_the_table_takes_is_in_the_types() {
    in_the_types::<PodSandboxConfig>(&schema::SANDBOX);
    in_the_types::<ContainerConfig>(&schema::CONTAINER);
    let full = pod(json!({
        "hostname": "h", "log_directory": "/l", "dns_config": {"servers": ["1.1.1.1"], "searches": ["a"], "options": ["b"]},
        "port_mappings": [{"protocol": "UDP", "container_port": 1, "host_port": "2", "host_ip": "127.0.0.1"}],
        "labels": {"a": "b"}, "annotations": {"c": "d"},
        "linux": {"cgroup_parent": "/p", "sysctls": {"net.core.somaxconn": "8"}, "overhead": {"cpu_shares": 2}, "resources": {"cpu_quota": "-1"},
            "security_context": {"namespace_options": {"network": 0, "pid": "CONTAINER", "ipc": 2, "userns_options": {"mode": 2, "uids": [], "gids": []}},
                "selinux_options": {"user": "u", "role": "r", "type": "t", "level": "l"}, "run_as_user": {"value": "1"},
                "run_as_group": {"value": 2}, "readonly_rootfs": true, "supplemental_groups": [3, "4"], "supplemental_groups_policy": 1,
                "privileged": true, "seccomp": {"profile_type": 1}, "apparmor": {"profile_type": 2, "localhost_ref": "p"}}}
    }));
    let read = sandbox(&full).unwrap();
    let security = &read.linux.security_context;
    assert_eq!(read.modes().unwrap(), Modes { host_network: false, host_pid: false, host_ipc: true });
    assert_eq!(security.who().unwrap(), Who { user: Some("1".into()), group: Some(2), groups: vec![3, 4], policy: GroupsPolicy::Strict });
    assert_eq!(security.seccomp().unwrap(), Some(Profile::Unconfined));
    assert_eq!((read.port_mappings[0].host_port, read.linux.resources.cpu_quota), (2, -1));
    let old = sandbox(&pod(json!({"linux": {"security_context": {"seccomp_profile_path": "localhost//x.json"}}}))).unwrap();
    assert_eq!(old.linux.security_context.seccomp().unwrap(), Some(Profile::Localhost("/x.json".to_owned())));
}

#[test]
fn a_key_that_is_not_there_is_refused_with_the_one_that_was_meant() {
    for (more, path, hint) in [
        (json!({"logDirectory": "/l"}), "logDirectory: ", "did you mean log_directory?"),
        (json!({"hostnmae": "x"}), "hostnmae: ", "did you mean hostname?"),
        (json!({"sysctls": {}}), "sysctls: ", "did you mean linux.sysctls?"),
        (
            json!({"linux": {"security_context": {"namespaceOptions": {}}}}),
            "linux.security_context.namespaceOptions: ",
            "namespace_options?",
        ),
        (
            json!({"linux": {"security_context": {"namespace_options": {"pib": 1}}}}),
            "linux.security_context.namespace_options.pib: ",
            "pid?",
        ),
        (json!({"port_mappings": [{"hostPort": 1}]}), "port_mappings[0].hostPort: ", "did you mean host_port?"),
        (json!({"nothing_like_it": 1}), "nothing_like_it: ", "there are metadata, hostname"),
    ] {
        let (kind, text, hints) = refused(sandbox(&pod(more)));
        assert!(kind == Kind::InvalidArgument && text.starts_with(path) && hints.contains(hint), "{text} ({hints})");
    }
    let (_, text, hints) = refused(container(&box_of(json!({"envs": [{"name": "A", "value": "b"}]}))));
    assert!(text.starts_with("envs[0].name: ") && hints.contains("key"), "{text} ({hints})");
    let (_, text, _) = refused(sandbox(&pod(json!({"a\u{1b}[2J": 1}))));
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

#[test]
fn enums_are_names_or_numbers_and_long_numbers_may_be_texts() {
    let mode = |value: Value| {
        let read = sandbox(&pod(json!({"linux": {"security_context": {"namespace_options": {"pid": value}}}})))?;
        Ok(read.linux.security_context.namespace_options.pid)
    };
    for (value, wanted) in [(json!(2), NamespaceMode::Node), (json!("NODE"), NamespaceMode::Node), (json!("1"), NamespaceMode::Container)] {
        assert_eq!(mode(value).unwrap(), wanted);
    }
    let (_, text, hints) = refused(mode(json!("Nodee")));
    assert!(text.contains("namespace_options.pid") && hints.contains("did you mean NODE?"), "{text} {hints}");
    let (_, _, hints) = refused(mode(json!(9)));
    assert!(hints.contains("0 (POD)") && hints.contains("3 (TARGET)"), "{hints}");
    let memory = |value: Value| container(&box_of(json!({"linux": {"resources": {"memory_limit_in_bytes": value}}})));
    for value in [json!(67_108_864), json!("67108864"), json!(67_108_864.0)] {
        assert_eq!(memory(value).unwrap().linux.resources.memory_limit_in_bytes, 64 << 20);
    }
    for bad in [json!("64m"), json!(1.5), json!(true), json!("99999999999999999999"), json!(4096)] {
        let (_, text, _) = refused(memory(bad));
        assert!(text.starts_with("linux.resources.memory_limit_in_bytes: "), "{text}");
    }
    let signal = |value: Value| container(&box_of(json!({"stop_signal": value}))).unwrap().stop_signal();
    assert_eq!((signal(json!(38)).as_deref(), signal(json!("SIGRTMAXMINUS2")).as_deref()), (Some("SIGRTMIN+3"), Some("SIGRTMAX-2")));
    assert_eq!((signal(json!(0)), signal(json!(23)).as_deref()), (None, Some("SIGTERM")));
}

#[test]
fn contradictions_are_refused_by_their_path() {
    let security = |more: Value| refused(container(&box_of(json!({"linux": {"security_context": more}})))).1;
    for (more, path) in [
        (json!({"run_as_group": {"value": 1}}), "run_as_group: "),
        (json!({"run_as_user": {"value": 1}, "run_as_username": "x"}), "run_as_username: "),
        (json!({"run_as_user": {"value": -1}}), "run_as_user: "),
        (json!({"run_as_user": 1}), "run_as_user: "),
        (json!({"supplemental_groups": [1, 4294967296_i64]}), "supplemental_groups[1]: "),
        (json!({"seccomp": {"localhost_ref": "/x"}}), "seccomp.localhost_ref: "),
        (json!({"seccomp": {"profile_type": 2}}), "seccomp.localhost_ref: "),
        (json!({"seccomp": {"profile_type": 2, "localhost_ref": "x.json"}}), "seccomp.localhost_ref: "),
        (json!({"seccomp": {}, "seccomp_profile_path": "unconfined"}), "seccomp_profile_path: "),
        (json!({"apparmor_profile": "enforcing"}), "apparmor_profile: "),
        (json!({"masked_paths": ["/proc/a", "proc"]}), "masked_paths[1]: "),
        (json!({"readonly_paths": ["/proc/../x"]}), "readonly_paths[0]: "),
    ] {
        let text = security(more);
        assert!(text.starts_with(&format!("linux.security_context.{path}")), "{text}");
    }
    for (more, path) in [
        (json!({"metadata": {"name": "a/b"}}), "metadata.name: "),
        (json!({"image": {}}), "image.image: "),
        (json!({"mounts": [{"container_path": "/a"}]}), "mounts[0].host_path: "),
        (json!({"mounts": [{"container_path": "/a", "host_path": "/b", "image": {"image": "x"}}]}), "mounts[0].host_path: "),
        (json!({"mounts": [{"container_path": "/a", "host_path": "/b", "recursive_read_only": true}]}), "mounts[0].recursive_read_only: "),
        (json!({"mounts": [{"container_path": "/a", "host_path": "/b", "image_sub_path": "x"}]}), "mounts[0].image_sub_path: "),
        (json!({"devices": [{"host_path": "/dev/fuse", "permissions": "x"}]}), "devices[0].permissions: "),
        (json!({"envs": [{"key": "A=B"}]}), "envs[0].key: "),
        (json!({"linux": {"resources": {"cpu_quota": 1}}}), "linux.resources.cpu_quota: "),
        (json!({"linux": {"resources": {"memory_swap_limit_in_bytes": 1}}}), "linux.resources.memory_swap_limit_in_bytes: "),
        (json!({"linux": {"resources": {"hugepage_limits": [{"page_size": "2M"}]}}}), "linux.resources.hugepage_limits[0].page_size: "),
        (json!({"linux": {"resources": {"unified": {"../memory.max": "1"}}}}), "linux.resources.unified["),
    ] {
        let (_, text, _) = refused(container(&box_of(more)));
        assert!(text.starts_with(path), "{text}");
    }
    for (more, path) in [
        (json!({"metadata": {"name": "a"}}), "metadata.namespace: "),
        (json!({"log_directory": "logs"}), "log_directory: "),
        (json!({"port_mappings": [{"host_port": 80}]}), "port_mappings[0].container_port: "),
        (json!({"port_mappings": [{"host_port": 70000, "container_port": 1}]}), "port_mappings[0].host_port: "),
        (json!({"port_mappings": [{"host_port": 80, "container_port": 1, "host_ip": "here"}]}), "port_mappings[0].host_ip: "),
        (
            json!({"port_mappings": [{"host_port": 80, "container_port": 1}], "linux": {"security_context": {"namespace_options": {"network": 2}}}}),
            "port_mappings[0].host_port: ",
        ),
        (
            json!({"linux": {"security_context": {"namespace_options": {"network": 1}}}}),
            "linux.security_context.namespace_options.network: ",
        ),
        (json!({"linux": {"security_context": {"namespace_options": {"pid": 3}}}}), "linux.security_context.namespace_options.pid: "),
    ] {
        let (_, text, _) = refused(sandbox(&pod(more)));
        assert!(text.starts_with(path), "{text}");
    }
}

#[test]
fn a_file_is_one_document_of_json_or_yaml() {
    let json = r#"{"metadata": {"name": "web"}, "labels": {"a": "\u00e9\ud83d\ude00", "n": "yes"},
	"port_mappings": [{"host_port": 80}]}"#;
    let yaml = "# a pod\nmetadata:\n  name: web\nlabels: {a: \u{e9}\u{1f600}, n: 'yes'}\nport_mappings:\n- host_port: 80\n";
    assert_eq!(document(json).unwrap(), document(yaml).unwrap());
    assert_eq!(document("---\n{metadata: {name: web}}\n").unwrap(), json!({"metadata": {"name": "web"}}));
    assert_eq!(document("{metadata: {name: web}}").unwrap(), json!({"metadata": {"name": "web"}}));
    for (bad, says) in [
        ("", "empty"),
        ("[]", "no object"),
        ("a: 1\n---\nb: 2\n", "2 documents"),
        (r#"{"a": 1, "a": 2}"#, "occurs twice"),
        (r#"{"a": {"b": 1, "b": 2}}"#, "occurs twice"),
        ("a: 1\na: 2\n", "a"),
        (r#"{"a": 1"#, "JSON"),
        (r#"{"a" 1}"#, "line 1 column"),
    ] {
        let (kind, text, _) = refused(document(bad));
        assert!(kind == Kind::InvalidArgument && text.contains(says), "{bad:?}: {text}");
    }
}

#[test]
fn texts_are_kept_byte_for_byte_and_scalars_of_yaml_are_their_text() {
    let labels = |yaml: &str| sandbox(&pod(json!({"labels": document(yaml).unwrap()["labels"]}))).map(|read| read.labels);
    let read = labels("labels: {port: 8080, on: 'on', truth: true, empty: , text: '  a b\t'}").unwrap();
    let seen: Vec<_> = read.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(seen, ["empty=", "on=on", "port=8080", "text=  a b\t", "truth=true"]);
    // A fraction could be written in more ways than one.
    let (_, text, hints) = refused(labels("labels: {version: 1.10}"));
    assert!(text.starts_with("labels[\"version\"]: ") && hints.contains("quotes"), "{text} {hints}");
}

#[test]
fn names_hold_who_a_pod_is_and_long_ones_stay_apart() {
    let who = |name: &str| PodMetadata { name: name.to_owned(), namespace: "ns".to_owned(), uid: "u".to_owned(), attempt: 2 };
    assert_eq!(sandbox_name(&who("web")).unwrap().as_ref(), "web_ns_u_2");
    let of = |name: &str| ContainerMetadata { name: name.to_owned(), attempt: 1 };
    assert_eq!(container_name(&of("c"), &who("web")).unwrap().as_ref(), "c_web_ns_u_1");
    let [one, two] = ["a", "b"].map(|end| sandbox_name(&who(&("x".repeat(200) + end))).unwrap());
    assert!(one != two && one.as_ref().len() == 128, "{one}");
    assert_eq!(uuid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    assert_eq!(hostname_of(&who(&format!("{}-b", "a".repeat(62)))), "a".repeat(62));
    assert_eq!(log_file("/l", "c/0.log").unwrap().unwrap().to_str(), Some("/l/c/0.log"));
    assert_eq!(log_file("/l", "").unwrap(), None);
    for bad in ["../x", "/x", "a/../b", "a//b", "a/", ".", "a\nb"] {
        assert!(log_file("/l", bad).unwrap_err().to_string().starts_with("log_path: "), "{bad:?}");
    }
    assert!(log_file("", "x").is_err());
}

#[test]
fn a_container_has_only_the_modes_that_its_sandbox_has() {
    let options = |more: Value| container(&box_of(json!({"linux": {"security_context": {"namespace_options": more}}}))).unwrap();
    let check = |more: Value, modes: Modes| options(more).linux.security_context.namespace_options.in_sandbox(modes);
    let (own, host) = (Modes::default(), Modes { host_network: true, host_pid: true, host_ipc: true });
    assert!(check(json!({}), own).is_ok() && check(json!({"pid": 1, "ipc": 1}), own).is_ok());
    assert!(check(json!({"network": 2, "pid": 2, "ipc": 2}), host).is_ok());
    for bad in [json!({"network": 2}), json!({"pid": 2}), json!({"ipc": 2})] {
        assert_eq!(check(bad, own).unwrap_err().kind(), Kind::FailedPrecondition);
    }
    for bad in
        [json!({"network": 1}), json!({"ipc": 3}), json!({"pid": 3}), json!({"target_id": "x"}), json!({"userns_options": {"mode": 1}})]
    {
        assert_eq!(check(bad, own).unwrap_err().kind(), Kind::InvalidArgument);
    }
    assert!(check(json!({"pid": 3, "target_id": "x"}), own).is_ok());
}

#[test]
fn the_ids_of_a_container_are_those_of_its_sandbox() {
    let options = |userns: Value| {
        let more = json!({"linux": {"security_context": {"namespace_options": {"userns_options": userns}}}});
        container(&box_of(more)).unwrap().linux.security_context.namespace_options
    };
    let range = |host: u32| json!([{"container_id": 0, "host_id": host, "length": "65536"}]);
    let given = |host: u32| options(json!({"mode": "POD", "uids": range(host), "gids": range(host)}));
    let map = crate::idmap::IdMap::contiguous(100_000, 65_536);
    assert_eq!((given(100_000).users().unwrap(), map.words().as_str()), (Some(map.clone()), "0:100000:65536"));
    assert_eq!(options(json!({"mode": 2})).users().unwrap(), None);
    assert!(given(100_000).fit_users(Some(&map)).is_ok() && options(json!({"mode": 2})).fit_users(None).is_ok());
    for (options, of_sandbox) in [(given(100_000), None), (given(7), Some(&map)), (options(json!({"mode": "NODE"})), Some(&map))] {
        assert_eq!(options.fit_users(of_sandbox).unwrap_err().kind(), Kind::FailedPrecondition);
    }
    let two = json!([{"host_id": 1, "length": 2}, {"container_id": 1, "host_id": 9, "length": 2}]);
    for (bad, kind, part) in [
        (json!({}), Kind::InvalidArgument, "needs uids and gids"),
        (json!({"mode": 2, "uids": range(1)}), Kind::InvalidArgument, "NODE has the ids of the host"),
        (json!({"mode": 3}), Kind::InvalidArgument, "TARGET is not for user ids"),
        (json!({"uids": range(1)}), Kind::Unimplemented, "otherwise than users"),
        (json!({"uids": two, "gids": two}), Kind::InvalidArgument, "overlap"),
        (
            json!({"uids": [{"container_id": 1, "length": 1}], "gids": [{"container_id": 1, "length": 1}]}),
            Kind::InvalidArgument,
            "root (0)",
        ),
    ] {
        let fault = options(bad).users().unwrap_err();
        assert!(fault.kind() == kind && fault.to_string().contains(part) && fault.to_string().contains("userns_options"), "{fault}");
    }
}
