//! Which module serves a device, and in which order modules load: depmod's text files, read once. Pure.

use std::collections::{HashMap, HashSet};

/// What modules.dep, modules.alias and modules.softdep of /lib/modules/RELEASE say. Names are as the kernel writes
/// them: `-` is `_`.
#[derive(Default)]
pub struct Index {
    modules: HashMap<String, Module>,
    /// Patterns by what stands before their colon (`pci`, `of`), the others under the empty word; with the module.
    aliases: HashMap<String, Vec<(String, String)>>,
}

#[derive(Default)]
struct Module {
    /// Below /lib/modules/RELEASE.
    path: String,
    /// Nearest first, as modules.dep has them.
    needs: Vec<String>,
    before: Vec<String>,
    after: Vec<String>,
}

impl Index {
    /// Reads the three texts; a line that is none of theirs is left out.
    pub fn new(dep: &str, alias: &str, softdep: &str) -> Index {
        let mut index = Index::default();
        for line in dep.lines() {
            let Some((path, needs)) = line.split_once(':') else { continue };
            let needs = needs.split_ascii_whitespace().map(name_of).collect();
            index.modules.insert(name_of(path), Module { path: path.into(), needs, ..Module::default() });
        }
        for line in alias.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some("alias"), Some(pattern), Some(module)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let module = normal(module);
            // Of modules that the image lacks nothing is kept.
            if index.modules.contains_key(&module) {
                index.aliases.entry(bus(pattern).into()).or_default().push((normal(pattern), module));
            }
        }
        for line in softdep.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some("softdep"), Some(module)) = (words.next(), words.next()) else { continue };
            let Some(module) = index.modules.get_mut(&normal(module)) else { continue };
            let mut after = false;
            for word in words {
                match word {
                    "pre:" => after = false,
                    "post:" => after = true,
                    _ if after => module.after.push(normal(word)),
                    _ => module.before.push(normal(word)),
                }
            }
        }
        index
    }

    /// The modules that serve a device of this modalias.
    pub fn serving(&self, modalias: &str) -> Vec<&str> {
        let modalias = normal(modalias);
        let bus = bus(&modalias);
        let buckets = [self.aliases.get(bus), self.aliases.get("").filter(|_| !bus.is_empty())];
        let patterns = buckets.into_iter().flatten().flatten();
        patterns
            .filter(|(pattern, _)| matches(pattern, &modalias))
            .map(|(_, module)| module.as_str())
            .collect()
    }

    /// The modules and files to load for a module (or an alias like `crypto-crc32c`), in order; empty where it is none
    /// of this image's: built in, or left out.
    pub fn order(&self, name: &str) -> Vec<(&str, &str)> {
        let mut order = Vec::new();
        self.visit(&normal(name), &mut HashSet::new(), &mut order);
        order
    }

    fn visit<'a>(&'a self, name: &str, seen: &mut HashSet<String>, order: &mut Vec<(&'a str, &'a str)>) {
        let Some((name, module)) = self.modules.get_key_value(name) else {
            for module in self.serving(name) {
                if module != name {
                    self.visit(module, seen, order);
                }
            }
            return;
        };
        // Soft dependencies may run in circles.
        if !seen.insert(name.clone()) {
            return;
        }
        module.before.iter().for_each(|name| self.visit(name, seen, order));
        module.needs.iter().rev().for_each(|name| self.visit(name, seen, order));
        order.push((name, &module.path));
        module.after.iter().for_each(|name| self.visit(name, seen, order));
    }
}

/// `kernel/drivers/net/virtio_net.ko` -> `virtio_net`; suffixes of compressed modules go too.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    normal(file.split_once(".ko").map_or(file, |(stem, _)| stem))
}

/// `-` and `_` are the same, but between brackets.
fn normal(text: &str) -> String {
    let mut inside = false;
    text.chars()
        .map(|c| {
            match c {
                '[' => inside = true,
                ']' => inside = false,
                _ => {}
            }
            if c == '-' && !inside { '_' } else { c }
        })
        .collect()
}

/// What stands before the colon, where that is no pattern itself.
fn bus(text: &str) -> &str {
    text.split_once(':').map_or("", |(bus, _)| if bus.contains(['*', '?', '[']) { "" } else { bus })
}

/// fnmatch(3) without flags: `*`, `?`, `[a-z]`, `[!a-z]`. Its work is bounded by the product of both lengths.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where the last star stands, and how far it has eaten.
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match (pattern.get(p), text.get(t)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            (Some(b'?'), Some(_)) => Some(p + 1),
            (Some(b'['), Some(byte)) => class(pattern, p + 1, *byte),
            (Some(literal), Some(byte)) if literal == byte => Some(p + 1),
            _ => None,
        };
        match (step, star) {
            (Some(next), _) => (p, t) = (next, t + 1),
            (None, Some((at, eaten))) if eaten < text.len() => {
                star = Some((at, eaten + 1));
                (p, t) = (at + 1, eaten + 1);
            }
            (None, _) => return false,
        }
    }
}

/// Where the pattern goes on behind the class that starts at `start`, if `byte` is in it.
fn class(pattern: &[u8], start: usize, byte: u8) -> Option<usize> {
    let negated = matches!(pattern.get(start), Some(b'!' | b'^'));
    let mut at = start + usize::from(negated);
    let mut found = false;
    let first = at;
    loop {
        let low = *pattern.get(at)?;
        if low == b']' && at > first {
            return (found != negated).then_some(at + 1);
        }
        match (pattern.get(at + 1), pattern.get(at + 2)) {
            (Some(b'-'), Some(high)) if *high != b']' => {
                found |= (low..=*high).contains(&byte);
                at += 3;
            }
            _ => {
                found |= low == byte;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        let table = [
            ("pci:v00001AF4d*sv*sd*bc*sc*i*", "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00", true),
            ("pci:v00001AF4d*sv*", "pci:v00008086d00001000sv00001AF4", false),
            ("of:N*T*Cvirtio,mmioC*", "of:NvirtioTCvirtio,mmioCx", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a[0-9b]c", "a7c", true),
            ("a[0-9b]c", "abc", true),
            ("a[!0-9]c", "a7c", false),
            ("a[]]c", "a]c", true),
            ("a[0-9", "a7", false),
            ("*a*b*c", "xxaxxbxxbxxc", true),
            ("*a*b*c", "xxaxxcxxb", false),
            ("usb:v0525pA4A2d*ic[0-9]*", "usb:v0525pA4A2d0100ic02", true),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        assert!(!matches(&"*a".repeat(200), &"b".repeat(2000)));
    }

    fn index() -> Index {
        Index::new(
            "k/virtio.ko:\nk/ring-x.ko:\nk/virtio_pci.ko: k/virtio.ko k/ring-x.ko\nk/ext4.ko: k/jbd2.ko k/mb.ko\n\
             k/jbd2.ko: k/mb.ko\nk/mb.ko:\nk/crc32c_generic.ko:\nk/a.ko:\nk/b.ko:\nnonsense\n",
            "# c\nalias pci:v1d* virtio-pci\nalias acpi*:LNRO0005:* virtio\nalias crypto-crc32c crc32c_generic\n\
             alias pci:v9d* absent\nalias half\n",
            "softdep ext4 pre: crypto-crc32c\nsoftdep a pre: b post: mb\nsoftdep b pre: a\nsoftdep absent pre: a\n",
        )
    }

    #[test]
    fn a_device_finds_its_module() {
        let index = index();
        assert_eq!(index.serving("pci:v1d2"), ["virtio_pci"]);
        assert_eq!(index.serving("acpi0:LNRO0005:x"), ["virtio"]);
        assert_eq!(index.serving("pci:v9d1"), [""; 0]);
    }

    #[test]
    fn what_is_needed_comes_first() {
        let index = index();
        let order = |name| index.order(name).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(order("virtio-pci"), ["ring_x", "virtio", "virtio_pci"]);
        assert_eq!(order("ext4"), ["crc32c_generic", "mb", "jbd2", "ext4"]);
        assert_eq!(order("a"), ["b", "a", "mb"]);
        assert_eq!(order("absent"), [""; 0]);
        assert_eq!(index.order("ring-x"), [("ring_x", "k/ring-x.ko")]);
    }
}
