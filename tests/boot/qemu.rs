//! A board in qemu, as a test sees it: its serial console, its web port, its power button and its plug.
#![allow(dead_code, reason = "a vocabulary for scenarios, of which each uses what it needs")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// What qemu may take for anything that a test waits for. An emulated board on a busy machine is slow, and only a
/// failing test waits so long.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// What the console shows when it waits for a command.
const PROMPT: &str = "podinit> ";

/// A board before its start.
pub struct Setup {
    board: &'static str,
    dir: PathBuf,
    append: String,
    config: bool,
    manifests: bool,
    data: bool,
    writes: bool,
    line: bool,
}

/// Begins a board's setup: its folder's name below board/.
pub fn board(board: &'static str) -> Setup {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("boot-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(dir.join("manifests")).expect("a folder for the test");
    let append = String::new();
    Setup { board, dir, append, config: false, manifests: false, data: false, writes: false, line: false }
}

impl Setup {
    /// Adds a manifest. The name `demo.yaml` replaces the demo's.
    pub fn manifest(mut self, name: &str, text: &str) -> Setup {
        fs::write(self.dir.join("manifests").join(name), text).expect("a manifest");
        self.manifests = true;
        self
    }

    /// Boots these pods instead of the demo's.
    pub fn pods(self, text: &str) -> Setup {
        self.manifest("demo.yaml", text)
    }

    /// Gives the board this text as its configuration file.
    pub fn config(mut self, text: &str) -> Setup {
        fs::write(self.dir.join("config.yaml"), text).expect("a configuration");
        self.config = true;
        self
    }

    /// Adds kernel arguments.
    pub fn append(mut self, args: &str) -> Setup {
        self.append = format!("{} {args}", self.append);
        self
    }

    /// Gives the board a disk for what outlives a boot, fresh from the image build. See `Board::boot_again`.
    pub fn data(mut self) -> Setup {
        self.data = true;
        self
    }

    /// Gives the board a copy of this disk for it.
    pub fn disk(self, from: &Path) -> Setup {
        let mut copy = Command::new("cp");
        copy.arg("--sparse=always").arg(from).arg(self.dir.join("data"));
        assert!(copy.status().is_ok_and(|status| status.success()), "{copy:?}");
        self.data()
    }

    /// Logs each write and flush of that disk, to the board's file `writes`.
    pub fn writes(mut self) -> Setup {
        self.writes = true;
        self
    }

    /// Gives the board a card of its own, with this file in its boot partition as well.
    pub fn on_card(self, file: &Path, place: &str) -> Setup {
        built(self.board);
        let image = format!("build/{0}/{0}.img", self.board);
        let card = self.dir.join("data").display().to_string();
        let there = |command: &mut Command| {
            let done = command.status().expect("it starts");
            assert!(done.success(), "{command:?}");
        };
        there(Command::new("cp").args(["--sparse=always", &image, &card]));
        // qemu wants a power of two.
        there(Command::new("truncate").args(["-s", "256M", &card]));
        let part = format!("{card}@@1M");
        let mcopy = ["-i", &part, &file.display().to_string(), &format!("::{place}")];
        there(Command::new("mcopy").args(mcopy).env("MTOOLS_SKIP_CHECK", "1"));
        self
    }

    /// Gives the prompt a serial line of its own, where the log is not between its answers.
    pub fn line(mut self) -> Setup {
        self.line = true;
        self
    }

    /// Switches the board on.
    pub fn boot(self) -> Board {
        built(self.board);
        Board::start(self)
    }
}

/// A running board; dropping it pulls the plug.
pub struct Board {
    setup: Setup,
    qemu: Qemu,
    console: Terminal,
    /// The prompt's, unless it is on the console.
    line: Option<Terminal>,
    port: u16,
    _turn: Turn,
}

/// qemu, or the script that starts it; it ends with whoever started it, also with a test that failed before it had a
/// `Board`.
struct Qemu(Child);

impl Qemu {
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Board {
    /// Boots the image that `built` made, without a look at its sources: another board's build, which holds the lock of
    /// all builds, may take minutes.
    fn start(setup: Setup) -> Board {
        let turn = Turn::wait();
        // Bound for a moment to learn of a free port.
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let mut command = run("board/run");
        command.args([setup.board, "--no-build", "--headless"]);
        command.args(["--port", &port.to_string(), "--append", &setup.append]);
        command.arg("--monitor").arg(setup.dir.join("monitor"));
        if setup.manifests {
            command.arg("--manifests").arg(setup.dir.join("manifests"));
        }
        if setup.config {
            command.arg("--config").arg(setup.dir.join("config.yaml"));
        }
        // A board with a card always has one, and no test shall meet another's.
        if setup.data || setup.board == "raspberrypi" {
            command.arg("--data").arg(setup.dir.join("data"));
        }
        if setup.writes {
            command.arg("--writes").arg(setup.dir.join("writes"));
        }
        if setup.line {
            command.arg("--prompt").arg(setup.dir.join("prompt"));
        }
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut qemu = Qemu(spawned.expect("board/run starts"));
        let keyboard = qemu.0.stdin.take().expect("piped");
        let console = Terminal::new(keyboard, qemu.0.stdout.take().expect("piped"));
        let line = setup.line.then(|| {
            let socket = connect(&setup.dir.join("prompt"));
            Terminal::new(socket.try_clone().expect("a descriptor"), socket)
        });
        Board { setup, qemu, console, line, port, _turn: turn }
    }

    /// Waits until the console has shown `text` since the board's start; the answer is the line that holds it.
    pub fn wait_for(&self, text: &str) -> String {
        self.wait_from(0, text).1
    }

    /// How much the console has shown by now, for `wait_from`.
    pub fn mark(&self) -> usize {
        self.console.mark()
    }

    /// As `wait_for`, but only what comes after `mark`. Answers the mark behind `text`, and its line, which has come whole.
    pub fn wait_from(&self, mark: usize, text: &str) -> (usize, String) {
        let mark = self.console.wait_from(mark, text);
        let end = self.console.wait_from(mark, "\n");
        (mark, self.console.line(end - 1))
    }

    /// What the console has shown so far.
    pub fn console(&self) -> String {
        self.console.screen.lock().text.clone()
    }

    /// The terminal that the prompt is on: the console, unless it has a line of its own.
    pub fn prompt(&mut self) -> &mut Terminal {
        self.line.as_mut().unwrap_or(&mut self.console)
    }

    /// Types a command at the prompt and gives back what it printed.
    pub fn ask(&mut self, verb: &str) -> String {
        self.prompt().ask(verb)
    }

    /// Types a command at the prompt without waiting for an answer: for `poweroff`. Answers the console's mark before it.
    pub fn say(&mut self, verb: &str) -> usize {
        let mark = self.mark();
        self.prompt().say(verb);
        mark
    }

    /// Asks until the command's answer satisfies `wanted`.
    pub fn ask_until(&mut self, verb: &str, wanted: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(verb);
            if wanted(&answer) {
                return answer;
            }
            assert!(Instant::now() < until, "{verb:?} still answers:\n{answer}");
            thread::sleep(Duration::from_millis(300));
        }
    }

    /// GETs a path from the board's port 8080, again until there is an answer; the answer's head and body.
    pub fn http(&self, path: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.get(path) {
                Ok(answer) if answer.starts_with("HTTP/1.") => return answer,
                // Until the pod listens, qemu accepts and then resets.
                _ => assert!(Instant::now() < until, "no answer over HTTP within {} s", PATIENCE.as_secs()),
            }
            assert!(!self.console.screen.lock().ended, "qemu ended before there was an answer over HTTP");
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn get(&self, path: &str) -> std::io::Result<String> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port))?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(socket, "GET {path} HTTP/1.0\r\nHost: board\r\n\r\n")?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Presses the power button.
    pub fn press_power(&self) {
        self.monitor("system_powerdown");
    }

    /// The disk for what outlives a boot, to be looked into while the board is off.
    pub fn disk(&self) -> PathBuf {
        self.setup.dir.join("data")
    }

    /// Gives qemu's monitor a command.
    pub fn monitor(&self, command: &str) {
        let mut socket = UnixStream::connect(self.setup.dir.join("monitor")).expect("qemu's monitor");
        // A command that comes before the first prompt is lost; the prompt after it says that it has been done.
        prompt(&mut socket);
        writeln!(socket, "{command}").expect("qemu's monitor listens");
        prompt(&mut socket);
    }

    /// Waits until the board has switched itself off; qemu's exit status.
    pub fn ended(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        let mut shown = self.console.screen.lock();
        while !shown.ended {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the board was still on after {} s", PATIENCE.as_secs());
            shown = self.console.screen.news.wait_timeout(shown, left).expect("no panic elsewhere").0;
        }
        drop(shown);
        self.qemu.0.wait().expect("qemu's status")
    }

    /// Pulls the plug, without a word to the board, and switches it on again with the same disk.
    pub fn boot_again(mut self) -> Board {
        self.pull();
        let Setup { board, dir, append, config, manifests, data, writes, line } = &mut self.setup;
        let setup = Setup {
            board,
            dir: std::mem::take(dir),
            append: std::mem::take(append),
            config: *config,
            manifests: *manifests,
            data: *data,
            writes: *writes,
            line: *line,
        };
        drop(self);
        // Else a test could connect before qemu has made its own.
        let _ = fs::remove_file(setup.dir.join("monitor"));
        let _ = fs::remove_file(setup.dir.join("prompt"));
        Board::start(setup)
    }

    /// A file of the board's: `data`, `writes`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.setup.dir.join(name)
    }

    /// Pulls the plug.
    pub fn pull(&mut self) {
        self.qemu.kill();
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.pull();
        if thread::panicking() {
            let line = self.line.as_ref().map(|line| ("its prompt", line.screen.lock().text.clone()));
            for (what, shown) in [("its console", self.console())].into_iter().chain(line) {
                let lines: Vec<&str> = shown.lines().collect();
                eprintln!("--- {}: the last lines of {what}", self.setup.board);
                lines[lines.len().saturating_sub(100)..].iter().for_each(|line| eprintln!("{line}"));
                eprintln!("---");
            }
        }
        if !self.setup.dir.as_os_str().is_empty() {
            let _ = fs::remove_dir_all(&self.setup.dir);
        }
    }
}

/// Reads qemu's monitor up to its next prompt, or its end.
fn prompt(monitor: &mut UnixStream) {
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    while !seen.ends_with(b"(qemu) ") {
        match monitor.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(length) => seen.extend_from_slice(&buffer[..length]),
        }
    }
}

/// A serial line of a board: its keyboard and its screen.
pub struct Terminal {
    keyboard: Box<dyn Write>,
    screen: Arc<Screen>,
}

impl Terminal {
    fn new(keyboard: impl Write + 'static, screen: impl Read + Send + 'static) -> Terminal {
        Terminal { keyboard: Box::new(keyboard), screen: Screen::read(screen) }
    }

    /// How much it has shown by now, for `wait_from`.
    pub fn mark(&self) -> usize {
        self.screen.lock().text.len()
    }

    /// What it has shown after `mark`.
    pub fn since(&self, mark: usize) -> String {
        self.screen.lock().text[mark..].to_owned()
    }

    /// The line that ends with the newline at `end`.
    fn line(&self, end: usize) -> String {
        let shown = self.screen.lock();
        let start = shown.text[..end].rfind('\n').map_or(0, |newline| newline + 1);
        shown.text[start..end].trim_end().to_owned()
    }

    /// Waits until it shows `text` after `mark`; the mark behind it.
    pub fn wait_from(&self, mark: usize, text: &str) -> usize {
        let until = Instant::now() + PATIENCE;
        let mut shown = self.screen.lock();
        loop {
            if let Some(at) = shown.text[mark..].find(text) {
                return mark + at + text.len();
            }
            assert!(
                !shown.text[mark..].contains("Kernel panic"),
                "the kernel panicked before {text:?} was seen"
            );
            assert!(!shown.ended, "qemu ended before {text:?} was seen");
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{text:?} was not seen within {} s", PATIENCE.as_secs());
            shown = self.screen.news.wait_timeout(shown, left).expect("no panic elsewhere").0;
        }
    }

    /// Types a command at the prompt and gives back what it printed.
    pub fn ask(&mut self, verb: &str) -> String {
        let start = self.say(verb);
        // What was typed is echoed; the answer starts on the next line. It need not end with its last line.
        let start = self.wait_from(start, "\n");
        let end = self.wait_from(start, PROMPT);
        self.screen.lock().text[start..end - PROMPT.len()].replace('\r', "")
    }

    /// Types a command at the prompt; the mark behind the prompt.
    pub fn say(&mut self, verb: &str) -> usize {
        let mark = self.mark();
        self.keys("\r");
        let mark = self.wait_from(mark, PROMPT);
        self.keys(&format!("{verb}\r"));
        mark
    }

    /// Types keys.
    pub fn keys(&mut self, keys: &str) {
        self.keyboard
            .write_all(keys.as_bytes())
            .and_then(|()| self.keyboard.flush())
            .expect("qemu reads the line");
    }
}

/// A socket that qemu makes soon.
fn connect(path: &Path) -> UnixStream {
    let until = Instant::now() + PATIENCE;
    loop {
        match UnixStream::connect(path) {
            Ok(socket) => return socket,
            Err(error) => assert!(Instant::now() < until, "{}: {error}", path.display()),
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// What a serial line has shown.
struct Screen {
    shown: Mutex<Shown>,
    news: Condvar,
}

#[derive(Default)]
struct Shown {
    text: String,
    ended: bool,
}

impl Screen {
    /// Reads `console` in a thread until qemu ends.
    fn read(mut console: impl Read + Send + 'static) -> Arc<Screen> {
        let screen = Arc::new(Screen { shown: Mutex::default(), news: Condvar::new() });
        let writer = screen.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let length = console.read(&mut buffer).unwrap_or(0);
                let mut shown = writer.lock();
                shown.text.push_str(&String::from_utf8_lossy(&buffer[..length]));
                shown.ended = length == 0;
                writer.news.notify_all();
                if shown.ended {
                    return;
                }
            }
        });
        screen
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// No more boards run at once than the machine has cores.
struct Turn;

static RUNNING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

impl Turn {
    fn wait() -> Turn {
        let most = thread::available_parallelism().map_or(1, usize::from);
        let mut running = RUNNING.0.lock().expect("no panic elsewhere");
        while *running >= most {
            running = RUNNING.1.wait(running).expect("no panic elsewhere");
        }
        *running += 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Ok(mut running) = RUNNING.0.lock() {
            *running -= 1;
        }
        RUNNING.1.notify_one();
    }
}

/// Builds a board's image, once for all tests; the same profile as the tests, as most of it is then built already.
pub fn built(board: &'static str) {
    static BUILT: Mutex<BTreeMap<&str, bool>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().expect("no panic elsewhere");
    let done = *built
        .entry(board)
        .or_insert_with(|| run("board/build").arg(board).status().is_ok_and(|status| status.success()));
    drop(built);
    assert!(done, "board/build {board} failed");
}

fn run(script: &str) -> Command {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(top.join(script));
    command.current_dir(top).env("PODINIT_PROFILE", "dev");
    // What cargo says to a test is not meant for the builds that the test starts.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_")) {
        if name != "CARGO_HOME" {
            command.env_remove(name);
        }
    }
    command
}
