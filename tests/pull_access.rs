//! `rkbox image pull`: who may read, whom it trusts, and which of several hosts is asked. Real registries, logins and certificates.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::fs;

use common::{Act, Gate, HTPASSWD, Output, Registry, World, images};

fn layout(name: &str) -> String {
    format!("oci:{}:latest", images().layout(name))
}

/// A command with more variables.
fn with(world: &World, variables: &[(&str, &str)], line: &str) -> Output {
    let mut command = world.command(&world.program);
    command.envs(variables.iter().copied()).args(line.split_whitespace());
    Output::of(&mut command, world.limit)
}

fn write(world: &World, path: &str, text: &str) {
    let path = world.path(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A registry that wants `test` and `secret`, with `private/app:1`.
fn private(world: &World, port: u16) -> Registry {
    write(world, "htpasswd", HTPASSWD);
    let registry = Registry::start(world, port, "auth:\n  htpasswd: {realm: here, path: /tmp/rkbox-world/htpasswd}");
    registry.push(world, &layout("busybox"), "private/app:1", "--dest-creds test:secret");
    registry
}

/// Each place from which a name and password can come; without one, the fault says what to do.
#[test]
fn a_login_is_found_wherever_it_is_kept() {
    let world = World::new();
    let registry = private(&world, 5000);
    let name = registry.name("private/app:1");
    let pull = format!("image pull -q {name}");
    let forget = || world.rk(&format!("image rm {name}")).ok();

    let refused = world.rk(&pull).fails(12).says("http://127.0.0.1:5000/v2: 401 Unauthorized (UNAUTHORIZED: authentication required)");
    refused.says("hint: log in with skopeo login 127.0.0.1:5000");
    world.rk(&format!("{pull} --creds test:wrong")).fails(12).says("401 Unauthorized");
    world.rk(&format!("{pull} --creds nonsense")).fails(2).says("USER:PASSWORD");
    world.rk(&format!("{pull} --creds test:secret")).ok();
    forget();
    with(&world, &[("RKBOX_CREDS", "test:secret")], &pull).ok();
    forget();

    // As skopeo writes it.
    world.sh("skopeo login --tls-verify=false --authfile $HOME/auth.json -u test -p secret 127.0.0.1:5000").ok();
    with(&world, &[("REGISTRY_AUTH_FILE", "/tmp/rkbox-world/auth.json")], &pull).ok();
    forget();
    world.rk(&format!("{pull} --authfile /tmp/rkbox-world/auth.json")).ok();
    forget();
    // The nearest key counts.
    let (good, bad) = ("dGVzdDpzZWNyZXQ=", "dGVzdDp3cm9uZw==");
    let keyed = |repository: &str, host: &str| {
        format!(r#"{{"auths":{{"127.0.0.1:5000/private/app":{{"auth":"{repository}"}},"127.0.0.1:5000":{{"auth":"{host}"}}}}}}"#)
    };
    write(&world, "auth.json", &keyed(good, bad));
    world.rk(&format!("{pull} --authfile /tmp/rkbox-world/auth.json")).ok();
    forget();
    write(&world, "auth.json", &keyed(bad, good));
    world.rk(&format!("{pull} --authfile /tmp/rkbox-world/auth.json")).fails(12);
    // Docker's file, and its helpers.
    write(&world, ".docker/config.json", &format!(r#"{{"auths":{{"http://127.0.0.1:5000/v2/":{{"auth":"{good}"}}}}}}"#));
    world.rk(&pull).ok();
    forget();
    let helper = "#!/bin/sh\nread -r key; [ \"$1 $key $ASKED\" = 'get 127.0.0.1:5000 yes' ] && echo '{\"Username\":\"test\",\"Secret\":\"secret\"}'\n";
    write(&world, "bin/docker-credential-mine", helper);
    world.sh("chmod +x $HOME/bin/docker-credential-mine").ok();
    for text in [r#"{"credHelpers":{"127.0.0.1:5000":"mine"}}"#, r#"{"credsStore":"mine"}"#] {
        write(&world, ".docker/config.json", text);
        with(&world, &[("PATH", "/tmp/rkbox-world/bin:/usr/bin:/bin"), ("ASKED", "yes")], &pull).ok();
        forget();
    }
    world.rk(&pull).fails(8).says("docker-credential-mine is not in PATH");
    write(&world, ".docker/config.json", r#"{"auths": hunter2}"#);
    let broken = world.rk(&pull).fails(2).says(".docker/config.json: it is not a file of credentials");
    assert!(!broken.stderr.contains("hunter2"), "{broken}");
    // No journal, record or index has the password.
    world.sh("! grep -rF secret $HOME/lib $HOME/run").ok();
}

/// A registry that takes only tokens, signed with a key of this test, from a token server that checks the login.
#[test]
fn tokens_are_fetched_with_and_without_a_login() {
    let world = World::new();
    world.sh(
        "cd $HOME; openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=tokens 2>/dev/null
         b() { openssl base64 -A | tr '+/' '-_' | tr -d =; }
         sign() {
            head=$(printf '{\"alg\":\"RS256\",\"typ\":\"JWT\",\"x5c\":[\"%s\"]}' $(openssl x509 -in cert.pem -outform DER | openssl base64 -A) | b)
            now=$(date +%s)
            body=$(printf '{\"iss\":\"me\",\"sub\":\"\",\"aud\":\"reg\",\"exp\":%s,\"nbf\":%s,\"iat\":%s,\"jti\":\"1\",\"access\":[{\"type\":\"repository\",\"name\":\"t/app\",\"actions\":[%s]}]}' \
                $((now + 3600)) $((now - 60)) $now \"$1\" | b)
            printf '%s.%s.%s' $head $body $(printf '%s.%s' $head $body | openssl dgst -sha256 -sign key.pem -binary | b)
         }
         sign '\"pull\",\"push\"' >push; sign '\"pull\"' >pull; sign '' >nothing",
    )
    .ok();
    let token = |name: &str| fs::read_to_string(world.path(name)).unwrap();
    let (push, pull, nothing) = (token("push"), token("pull"), token("nothing"));
    let tokens = Gate::open(5005, "127.0.0.1:1", move |_, request| {
        let token = match request.header("authorization") {
            "" => &nothing,
            // test:secret
            "Basic dGVzdDpzZWNyZXQ=" if request.path.contains("push") => &push,
            "Basic dGVzdDpzZWNyZXQ=" => &pull,
            _ => return Act::status("401 Unauthorized", ""),
        };
        Act::Say("200 OK".to_owned(), String::new(), format!(r#"{{"token":"{token}","expires_in":300}}"#).into_bytes())
    });
    let auth =
        "auth:\n  token: {realm: 'http://127.0.0.1:5005/token', service: reg, issuer: me, rootcertbundle: /tmp/rkbox-world/cert.pem}";
    let registry = Registry::start(&world, 5000, auth);
    registry.push(&world, &layout("layers"), "t/app:1", "--dest-creds test:secret");
    let before = tokens.seen().len();
    world.rk("image pull -q 127.0.0.1:5000/t/app:1").fails(12).says("401 Unauthorized");
    world.rk("image pull -q --creds test:wrong 127.0.0.1:5000/t/app:1").fails(12).says("401 Unauthorized");
    world.rk("image pull -q --creds test:secret 127.0.0.1:5000/t/app:1").ok();
    let asked = tokens.seen()[before..].to_vec();
    assert_eq!(asked.len(), 3, "one token is enough for all blobs: {asked:?}");
    assert!(asked.iter().all(|request| request.path == "/token?service=reg&scope=repository%3At%2Fapp%3Apull"), "{asked:?}");
}

/// A registry with TLS by a test CA, and one that wants a certificate of the client too.
#[test]
fn only_certificates_of_a_known_authority_are_taken() {
    let world = World::new();
    world
        .sh("cd $HOME; openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=test-ca 2>/dev/null
         issue() {
            openssl req -newkey rsa:2048 -nodes -keyout $1.key -out $1.csr -subj /CN=$1 2>/dev/null
            printf 'subjectAltName=IP:127.0.0.1,IP:10.99.0.1' >ext
            openssl x509 -req -in $1.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out $1.crt 2>/dev/null
         }
         issue server; issue client; ip addr add 10.99.0.1/32 dev lo")
        .ok();
    let tls = "  tls:\n    certificate: /tmp/rkbox-world/server.crt\n    key: /tmp/rkbox-world/server.key\n";
    let registry = Registry::start_at(&world, "10.99.0.1:5443", tls, "");
    registry.push(&world, &layout("busybox"), "app:1", "");
    let pull = "image pull -q 10.99.0.1:5443/app:1";
    let forget = || world.rk("image rm 10.99.0.1:5443/app:1").ok();
    world.rk(pull).fails(8).says("https://10.99.0.1:5443/v2: ").says("certificate");
    with(&world, &[("SSL_CERT_FILE", "/tmp/rkbox-world/ca.crt")], pull).ok();
    forget();
    world.rk(&format!("{pull} --tls-verify=false")).ok();
    forget();
    // As Docker and podman have it, and as containerd has it.
    world.sh("mkdir -p $HOME/certs.d/10.99.0.1:5443; cp $HOME/ca.crt $HOME/certs.d/10.99.0.1:5443/").ok();
    let from_dir = format!("{pull} --hosts-dir /tmp/rkbox-world/certs.d");
    world.rk(&from_dir).ok();
    forget();
    world.sh("rm -r $HOME/certs.d").ok();
    write(&world, "certs.d/10.99.0.1_5443_/hosts.toml", "server = \"https://10.99.0.1:5443\"\nca = \"/tmp/rkbox-world/ca.crt\"\n");
    world.rk(&from_dir).ok();
    forget();
    write(&world, "certs.d/10.99.0.1_5443_/hosts.toml", "ca = 5\n");
    world.rk(&from_dir).fails(2).says("hosts.toml: server: ca is not a text");

    let mutual = format!("{tls}    clientcas: [/tmp/rkbox-world/ca.crt]\n");
    let strict = Registry::start_at(&world, "10.99.0.1:5444", &mutual, "");
    world
        .sh("mkdir -p $HOME/pair; cp $HOME/client.crt $HOME/pair/client.cert; cp $HOME/client.key $HOME/pair/; cp $HOME/ca.crt $HOME/pair/")
        .ok();
    strict.push(&world, &layout("busybox"), "app:1", "--dest-cert-dir $HOME/pair");
    let pull = "image pull -q 10.99.0.1:5444/app:1";
    with(&world, &[("SSL_CERT_FILE", "/tmp/rkbox-world/ca.crt")], pull).fails(8);
    world.sh("mkdir -p $HOME/certs.d/10.99.0.1:5444; cp $HOME/pair/* $HOME/certs.d/10.99.0.1:5444/").ok();
    world.rk(&format!("{pull} --hosts-dir /tmp/rkbox-world/certs.d")).ok();

    // Through a proxy, which this machine's own addresses but loopback are asked through.
    let proxy = connect_proxy(5008);
    let variables = [("SSL_CERT_FILE", "/tmp/rkbox-world/ca.crt"), ("HTTPS_PROXY", "http://127.0.0.1:5008")];
    with(&world, &variables, "image pull -q 10.99.0.1:5443/app:1").ok();
    assert_eq!(*proxy.lock().unwrap(), ["10.99.0.1:5443"]);
    forget();
    with(&world, &[&variables[..], &[("NO_PROXY", "10.0.0.0/8")]].concat(), "image pull -q 10.99.0.1:5443/app:1").ok();
    assert_eq!(proxy.lock().unwrap().len(), 1);
}

/// A proxy that makes tunnels; answers where to.
fn connect_proxy(port: u16) -> std::sync::Arc<std::sync::Mutex<Vec<String>>> {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::{TcpListener, TcpStream};
    let (listener, seen) = (TcpListener::bind(("127.0.0.1", port)).unwrap(), std::sync::Arc::new(std::sync::Mutex::new(Vec::new())));
    let noted = seen.clone();
    std::thread::spawn(move || {
        common::apart();
        for client in listener.incoming().flatten() {
            let noted = noted.clone();
            std::thread::spawn(move || {
                common::apart();
                let mut reader = BufReader::new(client.try_clone().unwrap());
                let (mut line, mut rest) = (String::new(), String::new());
                reader.read_line(&mut line).unwrap();
                while reader.read_line(&mut rest).is_ok_and(|_| rest.trim() != "") {
                    rest.clear();
                }
                let to = line.split(' ').nth(1).unwrap().to_owned();
                if !noted.lock().unwrap().contains(&to) {
                    noted.lock().unwrap().push(to.clone());
                }
                let (mut client, mut server) = (client, TcpStream::connect(&to).unwrap());
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                let (mut back, mut forth) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || {
                    common::apart();
                    std::io::copy(&mut back, &mut forth)
                });
                let _ = std::io::copy(&mut client, &mut server);
            });
        }
    });
    seen
}

/// Mirrors of both files and of the option, in their order; one that does not answer is passed over.
#[test]
fn mirrors_are_asked_in_their_order() {
    let world = World::new();
    let mirror = Registry::start(&world, 5000, "");
    mirror.push(&world, &layout("busybox"), "library/app:1", "");
    mirror.push(&world, &layout("busybox"), "sub/path/library/app:1", "");
    let through = Registry::start(&world, 5001, "proxy: {remoteurl: 'http://127.0.0.1:5000'}");
    let gate = Gate::open(5002, &through.address, |_, _| Act::Pass);
    let broken = Gate::open(5003, &mirror.address, |_, _| Act::status("404 Not Found", ""));
    let pull = "image pull -q app:1";
    let forget = || world.rk("image rm app:1").ok();

    world.rk(&format!("{pull} --mirror http://127.0.0.1:5000")).ok();
    forget();
    // Down, then broken, then a pull-through cache.
    let toml = "server = \"http://127.0.0.1:1\"\n[host.\"http://127.0.0.1:4999\"]\n[host.\"http://127.0.0.1:5003\"]\n[host.\"http://127.0.0.1:5002\"]\n";
    write(&world, "certs.d/docker.io/hosts.toml", toml);
    world.rk(&format!("{pull} --hosts-dir /tmp/rkbox-world/certs.d")).ok();
    assert!(gate.seen().iter().all(|request| request.path.ends_with("?ns=docker.io")), "{:?}", gate.seen());
    assert!(gate.blobs().len() == 2 && broken.seen().iter().all(|request| !request.is_blob()), "{:?} {:?}", gate.blobs(), broken.seen());
    forget();

    let conf = "[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"127.0.0.1:4999\"\n\
                [[registry.mirror]]\nlocation = \"127.0.0.1:5000/sub/path\"\n[[registry]]\nlocation = \"bad.example\"\nblocked = true\n";
    write(&world, "registries.conf", conf);
    let variables = [("CONTAINERS_REGISTRIES_CONF", "/tmp/rkbox-world/registries.conf")];
    with(&world, &variables, pull).ok();
    forget();
    with(&world, &variables, "image pull -q bad.example/x").fails(5).says("registry bad.example is blocked");
    // hosts.toml before registries.conf, --mirror before both.
    let both = format!("{pull} --hosts-dir /tmp/rkbox-world/certs.d");
    let before = gate.seen().len();
    with(&world, &variables, &both).ok();
    assert!(gate.seen().len() > before);
    forget();
    let before = gate.seen().len();
    with(&world, &variables, &format!("{both} --mirror http://127.0.0.1:5000")).ok();
    assert_eq!(gate.seen().len(), before);
    forget();

    // Nobody has it: each is named, with what it answered.
    write(
        &world,
        "certs.d/docker.io/hosts.toml",
        "server = \"http://127.0.0.1:1\"\n[host.\"http://127.0.0.1:5003\"]\n[host.\"http://127.0.0.1:5000\"]\n",
    );
    let nobody = world.rk("image pull -q absent:1 --hosts-dir /tmp/rkbox-world/certs.d").fails(3);
    for says in [
        "http://127.0.0.1:5003/v2: 404 Not Found",
        "http://127.0.0.1:5000/v2: 404 Not Found (MANIFEST_UNKNOWN",
        "http://127.0.0.1:1/v2: connection refused",
    ] {
        assert!(nobody.stderr.contains(says), "{says}: {nobody}");
    }
}

/// A login goes to the host that it is for: not to a mirror, not where a redirect leads (CVE-2020-15157), not down to plain HTTP.
#[test]
fn a_login_stays_with_its_host() {
    let world = World::new();
    let registry = private(&world, 5000);
    let open = Registry::start(&world, 5001, "");
    open.push(&world, &layout("busybox"), "private/app:1", "");
    let elsewhere = Gate::open(5003, &open.address, |_, _| Act::Pass);
    let moved = Gate::open(5002, &registry.address, |_, request| match request.is_blob() {
        true => Act::status("307 Temporary Redirect", &format!("Location: http://127.0.0.1:5003{}\r\n", request.path)),
        false => Act::Pass,
    });
    world.rk("image pull -q --creds test:secret 127.0.0.1:5002/private/app:1").ok();
    assert!(moved.seen().iter().any(|request| request.header("authorization").starts_with("Basic ")), "{:?}", moved.seen());
    assert!(!elsewhere.seen().is_empty(), "the redirect was followed");
    assert!(elsewhere.seen().iter().all(|request| request.header("authorization").is_empty()), "{:?}", elsewhere.seen());

    // A mirror that asks for a login does not get that of the registry.
    let greedy = Gate::open(5004, "127.0.0.1:1", |_, _| Act::status("401 Unauthorized", "WWW-Authenticate: Basic realm=\"give\"\r\n"));
    world.rk("image rm 127.0.0.1:5002/private/app:1").ok();
    world.rk("image pull -q --creds test:secret --mirror http://127.0.0.1:5004 127.0.0.1:5000/private/app:1").ok();
    assert!(
        !greedy.seen().is_empty() && greedy.seen().iter().all(|request| request.header("authorization").is_empty()),
        "{:?}",
        greedy.seen()
    );
}
