//! A tool that changes what lies where it may write, and has itself started again: it has no more than before, and neither has another tool.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use aex_tests::sandbox::{Ground, Machine};
use aexd::tools::sandbox::{Failure, Level, Plan};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::python;

const SECRET: &str = "canary-of-the-home";

/// A user's home: keys, a folder of projects that a tool may write, and the daemon's files.
struct User<'g> {
    ground: &'g Ground,
    home: PathBuf,
}

impl User<'_> {
    fn on(ground: &Ground) -> User<'_> {
        let home = ground.folder("user").canonicalize().expect("a home");
        for (name, text) in [
            (".ssh/id_rsa", SECRET),
            ("code/team/proj/server.py", "print('served')"),
            ("code/team/proj/ro/file", "as it was"),
            ("code/team/proj/node_modules/dep/cli.js", "console.log('served')"),
            ("code/team/proj/package.json", "{}"),
            ("data/aex/permissions.json", SECRET),
        ] {
            let path = home.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        User { ground, home }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// A plan of a tool that may write the projects.
    fn plan(&self, level: Level, command: &[&str]) -> Plan {
        let mut plan = self.ground.plan(level, command);
        plan.user_home = Some(self.home.clone());
        plan.deny = vec![self.at("data/aex")];
        plan.confinement.write = vec![self.at("code")];
        plan
    }

    /// What becomes of a plan: what its program says, or why none runs.
    fn outcome(&self, plan: &Plan) -> Result<String, String> {
        match self.ground.run(plan) {
            Ok((_, said, _)) => Ok(said.trim().to_owned()),
            Err(Failure::Failed { what, .. }) => Err(what),
            Err(other) => panic!("{other}"),
        }
    }
}

/// Code that tries to read the key, by its name and by what lies in the working folder.
const TRY: &str = "
import os
for path in (os.path.join(os.environ['USERS'], '.ssh/id_rsa'), 'id_rsa'):
    try: print(open(path).read())
    except OSError: print('no')
";

/// What is given to a tool, and what it does before it ends.
struct Row {
    name: &'static str,
    give: fn(&User<'_>, &mut Plan),
    /// Below the projects' folder.
    before: &'static str,
    /// The next start: what it has to say, or a word of why there is none.
    after: Result<&'static str, &'static str>,
}

const MOVE: &str = "
os.rename('team', '.team'); os.mkdir('team'); os.symlink(os.path.join(os.environ['USERS'], '.ssh'), 'team/proj')
";
const MADE: &str = "a tool may have made that so";

const ROWS: [Row; 8] = [
    Row { name: "the working folder", give: |user, plan| plan.cwd = user.at("code/team/proj"), before: MOVE, after: Err(MADE) },
    Row {
        name: "a grant to read",
        give: |user, plan| plan.confinement.read.push(user.at("code/team/proj")),
        before: MOVE,
        after: Err(MADE),
    },
    Row {
        name: "a grant to write",
        give: |user, plan| plan.confinement.write.push(user.at("code/team/proj")),
        before: MOVE,
        after: Err(MADE),
    },
    Row {
        name: "the first line of a script",
        give: |user, plan| plan.args = vec![user.at("code/team/proj/server.py").display().to_string()],
        before: "
script = '#!' + os.environ['USERS'] + '/.ssh/x\\n' + os.environ['TRY']
os.rename('team', '.team'); os.makedirs('team/proj'); open('team/proj/server.py', 'w').write(script)
",
        after: Ok("no\nno"),
    },
    Row {
        name: "the first line of a program",
        give: |user, plan| {
            plan.program = Some(user.at("code/team/proj/server.py").display().to_string());
            plan.args = Vec::new();
        },
        before: "
with open('team/proj/server.py', 'w') as file: file.write('#!' + os.environ['PROGRAM'] + '\\n')
os.chmod('team/proj/server.py', 0o755)
",
        after: Err(MADE),
    },
    Row {
        name: "a script that is a link",
        give: |user, plan| plan.args = vec![user.at("code/team/proj/server.py").display().to_string()],
        before: "
os.remove('team/proj/server.py'); os.symlink(os.environ['USERS'] + '/.ssh/id_rsa', 'team/proj/server.py')
",
        after: Err(MADE),
    },
    Row {
        name: "the package.json of a project",
        give: |user, plan| {
            plan.program = Some("node".to_owned());
            plan.args = vec![user.at("code/team/proj/node_modules/dep/cli.js").display().to_string()];
        },
        before: "
os.remove('team/proj/package.json'); os.symlink(os.environ['USERS'] + '/.ssh/id_rsa', 'team/proj/package.json')
with open('team/proj/node_modules/dep/cli.js', 'w') as file: file.write('''
try { console.log(require('fs').readFileSync(process.env.USERS + '/.ssh/id_rsa', 'utf8')) } catch { console.log('no') }
''')
",
        after: Ok("no"),
    },
    Row {
        name: "a project that becomes larger",
        give: |user, plan| plan.args = vec![user.at("code/team/proj/server.py").display().to_string()],
        before: "
open('package.json', 'w').close()
open('team/proj/server.py', 'w').write(os.environ['TRY'])
",
        after: Ok("no\nno"),
    },
];

#[test]
fn what_a_tool_changes_before_its_end_gives_it_no_more_at_its_next_start() {
    for machine in [Machine::Own, Machine::WithoutNamespaces].into_iter().filter(|machine| machine.can_be_made()) {
        let ground = Ground::on(machine);
        for row in &ROWS {
            let user = User::on(&ground);
            // A program of the user, beside its keys.
            let program = user.at(".ssh/program");
            fs::copy("/bin/sh", &program).expect("a program");
            let env = |plan: &mut Plan| {
                let values =
                    [("USERS", user.home.display().to_string()), ("TRY", TRY.to_owned()), ("PROGRAM", program.display().to_string())];
                plan.env.extend(values.map(|(name, value)| (name.to_owned(), value)));
            };
            let code = format!("import os\nos.chdir({:?})\n{}\nprint('done')", user.at("code"), row.before);
            let mut first = user.plan(Level::Strict, &python(&code));
            env(&mut first);
            assert_eq!(user.outcome(&first), Ok("done".to_owned()), "{machine:?} {}", row.name);

            let mut second = user.plan(Level::Strict, &python(TRY));
            env(&mut second);
            (row.give)(&user, &mut second);
            match (user.outcome(&second), row.after) {
                (Ok(said), Ok(wanted)) => assert_eq!(said, wanted, "{machine:?} {}", row.name),
                (Err(why), Err(word)) => assert!(why.contains(word), "{machine:?} {}: {why}", row.name),
                (other, _) => panic!("{machine:?} {}: {other:?}", row.name),
            }
            // Nor has another tool, whose own grants do not reach there.
            second.confinement.write.retain(|path| path.starts_with(user.at("code/team")));
            second.writable = vec![user.at("code")];
            let other = user.outcome(&second);
            assert!(
                other.as_ref().map_or_else(|why| why.contains(MADE), |said| !said.contains(SECRET)),
                "{machine:?} {}: {other:?}",
                row.name
            );
        }
    }
}

#[test]
fn links_of_the_user_and_links_within_what_a_tool_may_write_are_followed() {
    let ground = Ground::on(Machine::Own);
    let user = User::on(&ground);
    symlink(user.at("code/team"), user.at("team")).expect("a link of the user");
    symlink("proj", user.at("code/team/current")).expect("a link of a tool");
    symlink("/usr/bin/python3", user.at("code/team/proj/python")).expect("a link of a virtual environment");
    let mut plan = user.plan(
        Level::Strict,
        &[&user.at("code/team/proj/python").display().to_string(), &user.at("code/team/current/server.py").display().to_string()],
    );
    plan.cwd = user.at("team/proj");
    assert_eq!(user.outcome(&plan), Ok("served".to_owned()));
    // A person's own word is another matter: what it leads to has a name.
    plan.cwd = user.at("code/team/current");
    let why = user.outcome(&plan).expect_err("a link that a tool may have made");
    assert!(why.contains("current leads to") && why.contains("if it is meant"), "{why}");
}

#[test]
fn a_working_folder_gives_no_home() {
    let ground = Ground::on(Machine::Own);
    let user = User::on(&ground);
    symlink(&user.home, user.at("link")).expect("a link");
    for folder in [user.home.clone(), user.at("link"), user.at("data"), "/".into(), "/etc".into()] {
        let mut plan = user.plan(Level::Strict, &["true"]);
        plan.cwd.clone_from(&folder);
        let why = user.outcome(&plan).expect_err("a folder with all else in it");
        assert!(why.starts_with("the working folder: "), "{folder:?}: {why}");
        // Who grants it means it.
        if folder.starts_with(&user.home) && folder != user.at("data") {
            plan.confinement.read.push(user.at(".ssh"));
            plan.cwd = user.at(".ssh");
            assert_eq!(user.outcome(&plan), Ok(String::new()), "{folder:?}");
        }
    }
}

/// Code that moves a folder away and puts another one in its place.
fn moves(folder: &Path, planted: &str) -> String {
    format!(
        "
import os
folder, planted = {folder:?}, {planted:?}
try:
    os.rename(folder, folder + '-moved')
    os.makedirs(os.path.dirname(os.path.join(folder, planted)))
    open(os.path.join(folder, planted), 'w').write('planted')
    print('moved')
except OSError as fault: print('no')
"
    )
}

#[test]
fn no_folder_on_the_way_to_what_a_tool_may_not_write_can_be_moved() {
    let ground = Ground::on(Machine::Own);
    let user = User::on(&ground);
    let mut plan = user.plan(Level::Strict, &python(&moves(&user.at("code/team"), "proj/ro/file")));
    plan.confinement.read.push(user.at("code/team/proj/ro"));
    let (report, said, _) = ground.run(&plan).expect("it runs");
    assert!(report.mountns && said.trim() == "no", "{said} {report:#?}");
    assert_eq!(fs::read_to_string(user.at("code/team/proj/ro/file")).expect("the file"), "as it was");

    let mut plan = user.plan(Level::Strict, &python(&moves(&user.at("data"), "aex/permissions.json")));
    plan.confinement.write = vec![user.home.clone()];
    assert_eq!(user.outcome(&plan), Ok("no".to_owned()));
    assert_eq!(fs::read_to_string(user.at("data/aex/permissions.json")).expect("the file"), SECRET);

    // Nor may it change the name by which the daemon finds them.
    symlink(user.at("data/aex"), user.at(".aex")).expect("a link");
    plan.deny = vec![user.at(".aex")];
    let why = user.outcome(&plan).expect_err("a link to the daemon's files in a granted folder");
    assert!(why.contains("must not be changed"), "{why}");
}

#[test]
fn what_is_granted_for_writing_is_not_narrowed_by_a_guess() {
    for machine in [Machine::Own, Machine::WithoutNamespaces].into_iter().filter(|machine| machine.can_be_made()) {
        let ground = Ground::on(machine);
        let user = User::on(&ground);
        let mut plan = user.plan(Level::Standard, &python("open('new', 'w').write('x'); print('written')"));
        plan.cwd = user.at("code/team/proj");
        assert_eq!(user.outcome(&plan), Ok("written".to_owned()), "{machine:?}");
    }
}

#[test]
fn without_namespaces_nothing_runs_that_could_write_what_is_for_reading() {
    if !Machine::WithoutNamespaces.can_be_made() {
        return;
    }
    let ground = Ground::on(Machine::WithoutNamespaces);
    let user = User::on(&ground);
    let mut plan = user.plan(Level::Standard, &["true"]);
    plan.confinement.read.push(user.at("code/team/proj/ro"));
    let why = user.outcome(&plan).expect_err("Landlock's rules add up");
    assert!(why.contains("code/team/proj/ro") && why.contains("cannot be held apart"), "{why}");
}

#[test]
fn a_name_that_changes_while_a_tool_starts_gives_nothing_else() {
    for machine in [Machine::Own, Machine::WithoutNamespaces].into_iter().filter(|machine| machine.can_be_made()) {
        let ground = Ground::on(machine);
        let user = User::on(&ground);
        let (app, link) = (user.at("code/app"), user.at("code/lnk"));
        fs::create_dir_all(app.join("config")).expect("a folder");
        fs::create_dir_all(user.at("data/aex/config")).expect("a folder");
        fs::write(user.at("data/aex/config/permissions.json"), SECRET).expect("a file");
        symlink(user.at("data/aex"), &link).expect("a link");
        let code = format!("import glob\nprint([open(path).read() for path in glob.glob({:?})])", app.join("config/*"));
        let mut plan = user.plan(Level::Strict, &python(&code));
        plan.confinement.write.clear();
        plan.confinement.read.push(app.join("config"));
        plan.writable = vec![user.at("code")];
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    renameat2(AT_FDCWD, &app, AT_FDCWD, &link, RenameFlags::RENAME_EXCHANGE).expect("exchange them");
                }
            });
            let outcomes: Vec<_> = (0..25).map(|_| user.outcome(&plan)).collect();
            is_over.store(true, Ordering::Relaxed);
            assert!(outcomes.iter().all(|outcome| outcome.as_ref().map_or(true, |said| said == "[]")), "{machine:?}: {outcomes:?}");
        });
    }
}
