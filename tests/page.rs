//! The example's report in a real browser: nothing fetched, no error in the
//! console, readable at phone and desk width, and the accessibility checks of
//! `tests/page/checks.js`.
//!
//! Run by `./test page`, apart from `cargo test`, because it needs Chromium
//! (`CHROMIUM` names another one). The page is served from loopback under a
//! policy that forbids every script and every outside resource, so that an
//! attempt at either is an error in the console.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

const CHECKS: &str = include_str!("page/checks.js");

/// What a self-contained report may do: look like something.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; \
                      base-uri 'none'; form-action 'none'";

/// A phone, the narrowest window that WCAG asks for, and a desk.
const WIDTHS: [u32; 3] = [320, 375, 1280];

/// Serves one page and the check page around it, and remembers what was asked for.
struct Site {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Site {
    fn serve(page: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (page, seen) = (page.to_owned(), Arc::clone(&asked));
        // The thread ends with the test process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (page, seen) = (page.clone(), Arc::clone(&seen));
                // One thread each: a browser opens connections ahead of need and leaves them silent.
                std::thread::spawn(move || answer(stream, &page, &seen));
            }
        });
        Self { address, asked }
    }

    /// Everything fetched that is not part of the check itself.
    fn strays(&self) -> Vec<String> {
        let known = |path: &String| {
            ["/report.html", "/checks.js", "/favicon.ico"].contains(&path.as_str()) || path.starts_with("/look?")
        };
        let mut strays = self.asked.lock().unwrap().clone();
        strays.retain(|path| !known(path));
        strays
    }
}

fn answer(stream: TcpStream, page: &str, seen: &Mutex<Vec<String>>) {
    let Ok(copy) = stream.try_clone() else { return };
    let mut reader = BufReader::new(copy);
    let mut first = String::new();
    if reader.read_line(&mut first).unwrap_or(0) == 0 {
        return;
    }
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap_or(0) > 2 {
        line.clear();
    }
    let path = first.split(' ').nth(1).unwrap_or("/").to_owned();
    seen.lock().unwrap().push(path.clone());
    let look;
    let (status, kind, policy, body) = match path.as_str() {
        "/report.html" => ("200 OK", "text/html", POLICY, page),
        "/checks.js" => ("200 OK", "text/javascript", "", CHECKS),
        "/favicon.ico" => ("204 No Content", "image/x-icon", "", ""),
        _ if path.starts_with("/look?") => {
            look = look_page(path.trim_start_matches("/look?"));
            ("200 OK", "text/html", "", look.as_str())
        }
        _ => ("404 Not Found", "text/plain", "", "not here"),
    };
    let policy = if policy.is_empty() { String::new() } else { format!("Content-Security-Policy: {policy}\r\n") };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {}\r\n{policy}Connection: close\r\n\r\n",
        body.len()
    );
    let mut stream = stream;
    // A browser that has gone away wants no answer.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
}

/// The page around the report: a window narrower than a browser's own least width needs a frame.
fn look_page(width: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><title>look</title>\
         <style>body {{ margin: 0 }} iframe {{ border: 0; display: block; width: {width}px; height: 900px }}</style>\
         <iframe id=\"frame\" title=\"report\" src=\"/report.html\"></iframe>\
         <script src=\"/checks.js\"></script><pre id=\"problems\" hidden>the check did not run</pre>\
         <script>addEventListener('load', () => {{\
           const frame = document.getElementById('frame'), page = frame.contentDocument;\
           frame.style.height = page.documentElement.scrollHeight + 'px';\
           let found; try {{ found = problemsOf(page); }} catch (error) {{ found = ['the check failed: ' + error]; }}\
           document.getElementById('problems').textContent = JSON.stringify(found);\
         }});</script>"
    )
}

fn chromium() -> PathBuf {
    if let Some(path) = std::env::var_os("CHROMIUM") {
        return path.into();
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .flat_map(|folder| ["chromium", "chromium-browser", "google-chrome"].map(|name| folder.join(name)))
        .find(|path| path.is_file())
        .expect("Chromium is needed; ./test page installs it, CHROMIUM names another")
}

/// What the browser wrote to its standard output, and the console lines of the page.
fn browse(arguments: &[&str]) -> (String, Vec<String>) {
    let profile = tempfile::tempdir().unwrap();
    let mut browser = Command::new(chromium())
        .args([
            "--headless=new",
            "--no-sandbox", // containers forbid it, and only our own page is opened
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--hide-scrollbars",
            "--force-color-profile=srgb",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--enable-logging=stderr",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Chromium starts");
    let reader = |mut pipe: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).map(|_| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
        })
    };
    let out = reader(Box::new(browser.stdout.take().unwrap()));
    let err = reader(Box::new(browser.stderr.take().unwrap()));
    let deadline = Instant::now() + Duration::from_secs(120);
    let status = loop {
        if let Some(status) = browser.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            browser.kill().unwrap();
            panic!("Chromium did not end within two minutes: {arguments:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let (out, err) = (out.join().unwrap(), err.join().unwrap());
    assert!(status.success(), "Chromium ended with {status}: {err}");
    let console = err.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect();
    (out, console)
}

/// Every problem of `page` at one width: the console's and the checks'.
fn problems(page: &str, width: u32) -> Vec<String> {
    let site = Site::serve(page);
    let (dom, mut found) =
        browse(&["--window-size=1400,1000", "--dump-dom", &format!("{}/look?{width}", site.address)]);
    let listed = dom
        .split_once("<pre id=\"problems\" hidden=\"\">")
        .and_then(|(_, rest)| rest.split_once("</pre>"))
        .map(|(json, _)| json.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
        .expect("the check page was drawn");
    match serde_json::from_str::<Vec<String>>(&listed) {
        Ok(listed) => found.extend(listed),
        Err(_) => found.push(listed),
    }
    found.extend(site.strays().into_iter().map(|path| format!("asked for {path}")));
    found
}

/// A picture for people to look at, which must not be blank.
fn picture(page: &str, width: u32, folder: &Path) {
    let site = Site::serve(page);
    let file = folder.join(format!("report-{width}.png"));
    browse(&[
        &format!("--window-size={width},2400"),
        &format!("--screenshot={}", file.display()),
        &format!("{}/look?{width}", site.address),
    ]);
    let bytes = std::fs::read(&file).unwrap();
    let drawn = u32::from_be_bytes(bytes[16..20].try_into().unwrap());
    assert_eq!(drawn, width, "width of {}", file.display());
    // A blank picture of this size packs into under 15 kB.
    assert!(bytes.len() > 30_000, "{} looks blank: {} bytes", file.display(), bytes.len());
    println!("drawn: {}", file.display());
}

/// The output folder of the main job on the example, which is run once for all tests.
fn example() -> &'static Path {
    static DONE: OnceLock<PathBuf> = OnceLock::new();
    DONE.get_or_init(process_example)
}

fn process_example() -> PathBuf {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
    if out.exists() {
        std::fs::remove_dir_all(&out).unwrap();
    }
    let root = env!("CARGO_MANIFEST_DIR");
    let done = Command::new(env!("CARGO_BIN_EXE_moothall"))
        .args(["process", "examples/mentoring.csv", "--as-at", "2026-12-01T09:00:00Z", "--out"])
        .arg(&out)
        .env_remove("MOOTHALL_CONFIG")
        .env_remove("MOOTHALL_CONSULTATION")
        .current_dir(root)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(done.status.success(), "process ended with {}: {}", done.status, String::from_utf8_lossy(&done.stderr));
    out
}

#[test]
fn the_report_of_the_example_reads_well_in_a_browser() {
    let out = example();
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();

    for width in WIDTHS {
        let found = problems(&page, width);
        assert!(found.is_empty(), "at {width} pixels:\n  {}", found.join("\n  "));
    }
    picture(&page, 375, out);
    picture(&page, 1280, out);

    let paper = out.join("report.pdf");
    let report = format!("file://{}", out.join("report.html").display());
    browse(&["--no-pdf-header-footer", &format!("--print-to-pdf={}", paper.display()), &report]);
    assert!(std::fs::read(&paper).unwrap().starts_with(b"%PDF-"), "the report prints");
}

#[test]
fn every_download_of_the_report_is_there() {
    let out = example();
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    let links = page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let files: Vec<&str> =
        links.filter(|link| !link.starts_with('#') && !link.contains(':') && !link.is_empty()).collect();
    assert!(!files.is_empty(), "the report offers downloads");
    for file in files {
        assert!(out.join(file).is_file(), "the report links to {file}, which is not there");
        assert!(!file.contains("restricted"), "the report links to {file}");
    }
}

/// The smallest page that the checks have nothing to say against.
const GOOD: &str = "<!doctype html><html lang=\"en-GB\"><head><title>Report</title>\
    <style>body { color: #111; background: #fff } svg text { fill: #111 } .bar { fill: #ccd }</style></head>\
    <body><a href=\"#content\">Skip to content</a><header><p>Council</p></header><main id=\"content\"><h1>Report</h1>\
    <h2>Themes</h2><table><caption>Themes</caption><thead><tr><th scope=\"col\">Theme</th></tr></thead>\
    <tbody><tr><th scope=\"row\">Stigma</th></tr></tbody></table>\
    <svg role=\"img\" aria-label=\"One bar\" width=\"200\" height=\"40\"><rect class=\"bar\" width=\"200\" height=\"40\"/>\
    <text x=\"5\" y=\"25\">Stigma</text></svg></main></body></html>";

#[test]
fn the_checks_have_nothing_against_a_sound_page() {
    assert_eq!(problems(GOOD, 320), Vec::<String>::new());
}

#[test]
fn the_checks_find_planted_faults() {
    let faults = [
        ("an outside picture", "</main>", "<img alt=\"\" src=\"http://example.org/a.png\"></main>", "fetches src"),
        ("a script", "</main>", "<script>document.title = 'x'</script></main>", "Content Security Policy"),
        ("pale text", "<h2>Themes", "<h2 style=\"color: #ccc; font-size: 16px\">Themes", "has contrast"),
        ("a pale label", "fill: #111", "fill: #99a", "has contrast"),
        ("a table with no caption", "<caption>Themes</caption>", "", "has no caption"),
        ("a skipped heading", "h2>", "h4>", "follows a heading of level 1"),
        ("a nameless chart", " aria-label=\"One bar\"", "", "has no text alternative"),
        ("a page wider than the window", "<h2>", "<h2 style=\"width: 900px\">", "makes the page"),
        ("a link to nowhere", "href=\"#content\"", "href=\"#contents\"", "which is not there"),
        ("no main", "main", "div", "main landmark"),
        ("no language", " lang=\"en-GB\"", "", "names no language"),
    ];
    for (fault, from, to, expected) in faults {
        assert!(GOOD.contains(from), "{fault}");
        let found = problems(&GOOD.replace(from, to), 320);
        assert!(found.iter().any(|one| one.contains(expected)), "{fault} was not found: {found:?}");
    }
}
