//! Each condition as a table: what a rule that allows and one that denies make of a value.

use super::*;

/// How a condition stands to arguments: `met`, `failed`, `unclear`; told by a rule that allows and by one that denies at once.
fn stands(condition: &str, arguments: &str) -> &'static str {
    let effect = |rule: &str, global: &str| {
        decide(&law(global, &[&format!("{rule} \"when\":{{{condition}}}")]), &caller("a", &[]), "s.t", arguments)
    };
    let (allow, deny) = (effect("allow", "deny"), effect("deny", "allow"));
    assert_eq!(effect("ask", "allow").effect == Effect::Ask, deny.effect == Effect::Deny, "{condition} {arguments}");
    match (allow.effect, deny.effect, deny.by.unclear.is_some()) {
        (Effect::Allow, Effect::Deny, false) => "met",
        (Effect::Deny, Effect::Allow, false) => "failed",
        (Effect::Deny, Effect::Deny, true) => "unclear",
        other => panic!("{condition} {arguments}: {other:?}"),
    }
}

#[track_caller]
fn row(condition: &str, arguments: &str, wanted: &str) {
    assert_eq!(stands(condition, arguments), wanted, "{condition} {arguments}");
}

#[test]
fn values_are_compared_as_what_they_are() {
    let rows = [
        (r#""/a":{"equals":"\"x\""}"#, r#"{"a":"x"}"#, "met"),
        (r#""/a":{"equals":"\"x\""}"#, r#"{"a":"\u0078"}"#, "met"),
        (r#""/a":{"equals":"\"x\""}"#, r#"{"a":"X"}"#, "failed"),
        (r#""/a":{"equals":"\"x\""}"#, r#"{"a":"x "}"#, "failed"),
        (r#""/a":{"equals":"\"x\""}"#, "{}", "failed"),
        (r#""/a":{"equals":"\"x\""}"#, r#"{"a":null}"#, "failed"),
        (r#""/a":{"equals":"\"x\""}"#, r#"{"a":["x"]}"#, "unclear"),
        (r#""/a":{"equals":"true"}"#, r#"{"a":true}"#, "met"),
        (r#""/a":{"equals":"true"}"#, r#"{"a":false}"#, "failed"),
        // Some programs take both for true.
        (r#""/a":{"equals":"true"}"#, r#"{"a":"true"}"#, "unclear"),
        (r#""/a":{"equals":"true"}"#, r#"{"a":1}"#, "unclear"),
        (r#""/a":{"equals":"1"}"#, r#"{"a":1.0}"#, "met"),
        (r#""/a":{"equals":"1.0"}"#, r#"{"a":1}"#, "met"),
        (r#""/a":{"equals":"1"}"#, r#"{"a":1e0}"#, "met"),
        (r#""/a":{"equals":"0"}"#, r#"{"a":-0}"#, "met"),
        (r#""/a":{"equals":"0.1"}"#, r#"{"a":0.1}"#, "met"),
        (r#""/a":{"equals":"1"}"#, r#"{"a":2}"#, "failed"),
        (r#""/a":{"equals":"1"}"#, r#"{"a":"1"}"#, "unclear"),
        (r#""/a":{"equals":"null"}"#, r#"{"a":null}"#, "met"),
        (r#""/a":{"equals":"null"}"#, r#"{"a":1}"#, "failed"),
        (r#""/a":{"equals":"null"}"#, "{}", "failed"),
        (r#""/a":{"one_of":["\"x\"","\"y\""]}"#, r#"{"a":"y"}"#, "met"),
        (r#""/a":{"one_of":["\"x\"","\"y\""]}"#, r#"{"a":"z"}"#, "failed"),
        (r#""/a":{"one_of":["\"x\"","\"y\""]}"#, r#"{"a":0}"#, "unclear"),
        (r#""/a":{"one_of":["\"x\"","null"]}"#, r#"{"a":"z"}"#, "failed"),
        (r#""/a":{"present":true}"#, r#"{"a":null}"#, "met"),
        (r#""/a":{"present":true}"#, r#"{"b":1}"#, "failed"),
        (r#""/a":{"present":false}"#, r#"{"b":1}"#, "met"),
        (r#""/a":{"present":false}"#, r#"{"a":null}"#, "failed"),
    ];
    rows.into_iter().for_each(|(condition, arguments, wanted)| row(condition, arguments, wanted));
}

#[test]
fn numbers_are_held_within_their_bounds() {
    let rows = [
        (r#""/n":{"max":"5"}"#, "5", "met"),
        (r#""/n":{"max":"5"}"#, "5.0000001", "failed"),
        (r#""/n":{"below":"5"}"#, "5", "failed"),
        (r#""/n":{"below":"5"}"#, "4.9", "met"),
        (r#""/n":{"min":"-1.5"}"#, "-1.5", "met"),
        (r#""/n":{"min":"-1.5"}"#, "-2", "failed"),
        (r#""/n":{"above":"0"}"#, "0", "failed"),
        (r#""/n":{"above":"0"}"#, "1e-300", "met"),
        (r#""/n":{"min":"1","max":"2"}"#, "1.5", "met"),
        (r#""/n":{"min":"1","max":"2"}"#, "3", "failed"),
        // Beyond what a double holds exactly the order stays right.
        (r#""/n":{"max":"9007199254740991"}"#, "9007199254740993", "failed"),
        (r#""/n":{"max":"9007199254740991"}"#, "18446744073709551615", "failed"),
        (r#""/n":{"min":"-9007199254740991"}"#, "-9223372036854775808", "failed"),
        (r#""/n":{"max":"5"}"#, "1e308", "failed"),
        (r#""/n":{"max":"5"}"#, "\"4\"", "unclear"),
        (r#""/n":{"max":"5"}"#, "true", "unclear"),
        (r#""/n":{"max":"5"}"#, "[4]", "unclear"),
        (r#""/n":{"max":"5"}"#, "null", "failed"),
    ];
    rows.into_iter().for_each(|(condition, number, wanted)| row(condition, &format!("{{\"n\":{number}}}"), wanted));
    // What is surely not met decides, whatever is not known.
    row(r#""/n":{"max":"5"},"/m":{"max":"5"}"#, r#"{"n":"4","m":6}"#, "failed");
    row(r#""/n":{"max":"5"},"/m":{"max":"5"}"#, r#"{"n":"4","m":4}"#, "unclear");
}

#[test]
fn an_expression_allows_whole_texts_and_denies_parts() {
    let effects = |pattern: &str, text: &str| {
        let condition = format!(r#""/t":{{"matches":{}}}"#, serde_json::Value::from(pattern));
        let arguments = serde_json::json!({ "t": text }).to_string();
        let of = |rule: &str, global: &str| {
            decide(&law(global, &[&format!("{rule} \"when\":{{{condition}}}")]), &caller("a", &[]), "s.t", &arguments).effect
        };
        (of("allow", "deny") == Effect::Allow, of("deny", "allow") == Effect::Deny)
    };
    let rows = [
        ("ls|ls -l", "ls -l", (true, true)),
        ("[a-z]+", "abc", (true, true)),
        ("[a-z]+", "abc; rm -rf /", (false, true)),
        ("[a-z]+", "abc\n", (false, true)),
        ("(?m)^[a-z]+$", "abc\nRM", (false, true)),
        ("rm -rf", "sudo rm -rf /", (false, true)),
        ("^rm", "sudo rm", (false, false)),
        ("rm -rf", "ls", (false, false)),
        ("(?i)drop table", "DROP TABLE x", (false, true)),
        ("", "", (true, true)),
        ("", "x", (false, true)),
        // Linear, whatever the pattern.
        ("(a*)*b", &"a".repeat(20_000), (false, false)),
    ];
    for (pattern, text, wanted) in rows {
        assert_eq!(effects(pattern, text), wanted, "{pattern} {}", text.get(..20).unwrap_or(text));
    }
    row(r#""/t":{"matches":"a"}"#, r#"{"t":1}"#, "unclear");
    row(r#""/t":{"matches":"a"}"#, r#"{"t":null}"#, "failed");
    row(r#""/t":{"matches":"a"}"#, r#"{}"#, "failed");
}

#[test]
fn a_pointer_leads_to_one_value_or_with_stars_to_each() {
    let max = r#"{"max":"5"}"#;
    let rows = [
        ("/a/b", r#"{"a":{"b":1}}"#, "met"),
        ("/a/1", r#"{"a":[9,1]}"#, "met"),
        ("/a/0", r#"{"a":{"0":1}}"#, "met"),
        ("/a/2", r#"{"a":[9,1]}"#, "failed"),
        ("/a/b", r#"{"a":{}}"#, "failed"),
        ("/a/b", r#"{"a":null}"#, "failed"),
        ("/a~1b/c~0d", r#"{"a/b":{"c~d":1}}"#, "met"),
        ("/a~01", r#"{"a~1":1}"#, "met"),
        ("/", r#"{"":1}"#, "met"),
        // A text where an object should be may hold one; so may a list.
        ("/a/b", r#"{"a":"{\"b\":9}"}"#, "unclear"),
        ("/a/b", r#"{"a":[{"b":9}]}"#, "unclear"),
        ("/a/01", r#"{"a":[1,1]}"#, "unclear"),
        ("/a/*", r#"{"a":[1,2]}"#, "met"),
        ("/a/*", r#"{"a":{"x":1,"y":2}}"#, "met"),
        ("/a/*", r#"{"a":[]}"#, "failed"),
        ("/a/*", r#"{"a":[9,9]}"#, "failed"),
        ("/a/*", r#"{"a":3}"#, "unclear"),
        ("/*", r#"{"a":3}"#, "met"),
        ("/*/n", r#"{"a":{"n":1},"b":{"n":2}}"#, "met"),
    ];
    for (pointer, arguments, wanted) in rows {
        row(&format!("\"{pointer}\":{max}"), arguments, wanted);
    }
    // Whoever allows wants all of them, whoever denies one: an item that is not there is none of either.
    let effects = |arguments: &str| {
        let of = |rule: &str, global: &str| {
            decide(&law(global, &[&format!("{rule} \"when\":{{\"/a/*/n\":{max}}}")]), &caller("a", &[]), "s.t", arguments).effect
        };
        (of("allow", "deny") == Effect::Allow, of("deny", "allow") == Effect::Deny)
    };
    assert_eq!(effects(r#"{"a":[{"n":1},{"n":9}]}"#), (false, true));
    assert_eq!(effects(r#"{"a":[{"n":1},{}]}"#), (false, true));
    assert_eq!(effects(r#"{"a":[{"n":9},{}]}"#), (false, false));
    assert_eq!(effects(r#"{"a":[{"n":9},{"n":"1"}]}"#), (false, true));
    assert_eq!(effects(r#"{"a":[{"n":1},{"n":1}]}"#), (true, true));
}

#[test]
fn the_host_of_a_url_is_known_or_not_told() {
    let rows = [
        ("https://example.com/x", "example.com:443"),
        ("HTTP://EXAMPLE.com.", "example.com:80"),
        ("http://example.com:8080?x=http://evil/", "example.com:8080"),
        ("http://example.com#@evil", "example.com:80"),
        ("http://example.com/\\@evil", "example.com:80"),
        ("wss://a_b.c-d.e1/", "a_b.c-d.e1:443"),
        ("http://xn--e1afmkfd.xn--p1ai/", "xn--e1afmkfd.xn--p1ai:80"),
        ("http://127.0.0.1:1/", "127.0.0.1:1"),
        ("http://[::1]/", "[::1]:80"),
        ("http://[2001:DB8:0:0::1]:81/", "[2001:db8::1]:81"),
        ("http://good@evil/", "User"),
        ("http://good:pw@evil/", "User"),
        ("http://good%40evil/", "Host"),
        ("http://good\\@evil/", "Backslash"),
        ("http:\\\\evil\\", "Scheme"),
        ("http:evil", "Scheme"),
        ("http:/evil", "Scheme"),
        ("//evil/", "Scheme"),
        ("evil.com", "Scheme"),
        ("file://good/etc/passwd", "Scheme"),
        ("javascript://good/%0aalert(1)", "Scheme"),
        ("blob:http://good/", "Scheme"),
        (" http://good/", "Blank"),
        ("http://go\nod/", "Blank"),
        ("http://go\tod/", "Blank"),
        ("http://good/ x", "Blank"),
        ("http://good\u{3000}/", "Blank"),
        ("http://", "Host"),
        ("http:///evil", "Host"),
        ("http://./", "Host"),
        ("http://a..b/", "Host"),
        ("http://.a/", "Host"),
        ("http://a../", "Host"),
        ("http://ex\u{e4}mple.com/", "Host"),
        ("http://\u{ff45}vil.com/", "Host"),
        ("http://evil\u{3002}com/", "Host"),
        ("http://evil.com\u{ad}/", "Host"),
        // All of these are 127.0.0.1 to somebody.
        ("http://2130706433/", "Host"),
        ("http://0x7f.1/", "Host"),
        ("http://127.1/", "Host"),
        ("http://0177.0.0.1/", "Host"),
        ("http://127.0.0.0x1/", "Host"),
        ("http://1.2.3.4.5/", "Host"),
        ("http://256.0.0.1/", "Host"),
        ("http://[::ffff:127.0.0.1]/", "Host"),
        ("http://[::127.0.0.1]/", "Host"),
        ("http://[::]/", "Host"),
        ("http://[fe80::1%25eth0]/", "Host"),
        ("http://[::1/", "Host"),
        ("http://::1/", "Port"),
        ("http://[::1]x/", "Host"),
        ("http://a:80:80/", "Port"),
        ("http://a:/", "Port"),
        ("http://a:0/", "Port"),
        ("http://a:65536/", "Port"),
        ("http://a:+80/", "Port"),
    ];
    for (url, wanted) in rows {
        let found = UrlHost::of(url).map_or_else(|odd| format!("{odd:?}"), |url| format!("{}:{}", url.host, url.port));
        assert_eq!(found, wanted, "{url:?}");
    }
    assert_eq!(UrlHost::of(&format!("http://{}/", "a.".repeat(130))), Err(Odd::Host));
}

#[test]
fn a_host_in_a_rule_means_itself_or_what_its_stars_leave_open() {
    let rows = [
        ("example.com", "http://example.com/", true),
        ("Example.COM.", "https://example.com/", true),
        ("example.com", "http://www.example.com/", false),
        ("example.com", "http://example.com.evil.org/", false),
        ("*.example.com", "http://a.b.example.com/", true),
        ("*.example.com", "http://example.com/", false),
        ("*.example.com", "http://evilexample.com/", false),
        ("example.com:443", "https://example.com/", true),
        ("example.com:443", "http://example.com/", false),
        ("*:8080", "http://x:8080/", true),
        ("10.*", "http://10.1.2.3/", true),
        // A name, though it begins as an address does.
        ("10.*", "http://10.evil.com/", false),
        ("*", "http://[::1]/", true),
        ("[::1]", "http://[0:0::1]/", true),
        ("[0::1]:80", "http://[::1]/", true),
        ("[fd*]", "http://[fd00::1]/", true),
        ("[fd*]", "http://fd.evil.com/", false),
    ];
    for (pattern, url, wanted) in rows {
        let pattern = HostPattern::parse(pattern).unwrap();
        assert_eq!(pattern.fits(&UrlHost::of(url).unwrap()), wanted, "{pattern:?} {url}");
    }
    for wrong in ["", "http://x", "a b", "a/b", "u@x", "x:", "x:http", "\u{e9}x.com", "a..b", "[::1", "127.1", "*..x", "[x*]"] {
        assert!(HostPattern::parse(wrong).is_err(), "{wrong}");
    }
    row(r#""/u":{"url_host":["good.com"]}"#, r#"{"u":"http://good.com@evil.com/"}"#, "unclear");
    row(r#""/u":{"url_host":["good.com"]}"#, r#"{"u":"http://evil.com/"}"#, "failed");
    row(r#""/u":{"url_host":["evil.com","good.com"]}"#, r#"{"u":"http://good.com/"}"#, "met");
    row(r#""/u":{"url_host":["good.com"]}"#, r#"{"u":7}"#, "unclear");
}

/// Answers of a file system in which every path is where it says, but for one that nobody knows.
fn answers(law: &Permissions, who: &Caller, tool: &ToolName, arguments: &Arguments) -> Resolved {
    let mut resolved = Resolved::default();
    for question in law.questions(who, tool, arguments).into_iter().filter(|question| question.text != "/unknown") {
        let place = question.text.trim_end_matches('/').to_owned();
        resolved.is_at(question, place);
    }
    resolved
}

#[test]
fn only_what_a_rule_needs_is_asked_of_the_file_system() {
    let rules = [
        r#"allow "tool":["t"],"when":{"/p":{"under":["/d","/e"]},"/q/*":{"under":["/d"]},"/n":{"max":"1"}}"#,
        r#"allow "tool":["u"],"when":{"/r":{"under":["/f"]}}"#,
        r#"allow "agent":["bob"],"when":{"/s":{"under":["/g"]}}"#,
    ];
    let law = law("deny", &rules);
    let asked = |tool: &str, arguments: &str| {
        let questions = law.questions(&caller("a", &[]), &ToolName::parse(tool).unwrap(), &Arguments::parse(arguments).unwrap());
        questions.iter().map(|question| format!("{:?} {}", question.of, question.text)).collect::<Vec<_>>().join(", ")
    };
    let arguments = r#"{"p":"x","q":["y","x","~/z",5],"r":"r","s":"s"}"#;
    assert_eq!(asked("s.t", arguments), "Argument x, Argument y, Folder /d, Folder /e");
    assert_eq!(asked("s.u", arguments), "Argument r, Folder /f");
    assert_eq!(asked("s.v", arguments), "");
    assert_eq!(asked("s.t", "{}"), "");
    // The rest of very many cannot be told.
    let many: Vec<String> = (0..300).map(|number| format!("\"/d/{number}\"")).collect();
    let (who, tool) = (caller("a", &[]), ToolName::parse("s.t").unwrap());
    let law = super::law("deny", &[r#"allow "when":{"/q/*":{"under":["/d"]}}"#]);
    for (count, wanted) in [(256, Effect::Allow), (300, Effect::Deny)] {
        let arguments = Arguments::parse(&format!("{{\"q\":[{}]}}", many[..count].join(","))).unwrap();
        let facts = law.observe(&who, &tool, &arguments, &answers(&law, &who, &tool, &arguments));
        assert_eq!(law.decide(&who, &tool, &facts).effect, wanted, "{count}");
    }
}

#[test]
fn a_path_that_nobody_knows_is_in_no_folder_that_allows_and_in_every_one_that_denies() {
    let (who, tool) = (caller("a", &[]), ToolName::parse("s.t").unwrap());
    let effect = |rule: &str, global: &str, folders: &str, path: &str| {
        let law = law(global, &[&format!("{rule} \"when\":{{\"/p\":{{\"under\":{folders}}}}}")]);
        let arguments = Arguments::parse(&serde_json::json!({ "p": path }).to_string()).unwrap();
        let facts = law.observe(&who, &tool, &arguments, &answers(&law, &who, &tool, &arguments));
        law.decide(&who, &tool, &facts).effect
    };
    let rows = [
        (r#"["/d"]"#, "/d/x", (Effect::Allow, Effect::Deny)),
        (r#"["/d"]"#, "/dx", (Effect::Deny, Effect::Allow)),
        (r#"["/d"]"#, "/unknown", (Effect::Deny, Effect::Deny)),
        (r#"["/unknown"]"#, "/d/x", (Effect::Deny, Effect::Deny)),
        (r#"["/unknown","/d"]"#, "/d/x", (Effect::Allow, Effect::Deny)),
        (r#"["/unknown","/e"]"#, "/d/x", (Effect::Deny, Effect::Deny)),
    ];
    for (folders, path, wanted) in rows {
        assert_eq!((effect("allow", "deny", folders, path), effect("deny", "allow", folders, path)), wanted, "{folders} {path}");
    }
}
