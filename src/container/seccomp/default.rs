//! The profile RuntimeDefault: containerd's, as data (its contrib/seccomp, described in its documentation).

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Arch, Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg,
    LinuxSeccompArgBuilder, LinuxSeccompBuilder, LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};

/// Allowed with any arguments.
const ALLOWED: &str = "\
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 \
    clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 \
    clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 \
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old \
    eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate \
    fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync \
    fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync \
    ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat \
    getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups \
    getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid \
    getresgid32 getresuid getresuid32 getrlimit get_robust_list getrusage getsid getsockname getsockopt \
    get_thread_area gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init \
    inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents \
    io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule \
    landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount \
    listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lsm_get_self_attr lsm_list_modules \
    lsm_set_self_attr lstat lstat64 madvise membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod \
    mknodat mlock mlock2 mlockall map_shadow_stack mmap mmap2 mprotect mq_getsetattr mq_notify mq_open \
    mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl \
    msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect \
    open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect \
    poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 \
    pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg \
    recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 \
    restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn \
    rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity sched_getattr \
    sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval \
    sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler \
    sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 \
    sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 \
    setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid \
    setreuid32 setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid setuid32 \
    setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask \
    sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat \
    sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun \
    timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime \
    timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask \
    uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid \
    waitpid write writev";

/// What only one architecture has. The native one's are listed in the profile, whatever machine reads it: a name that
/// an architecture does not know is no rule there.
const ARCHITECTURES: &str = "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls \
    arch_prctl modify_ldt";

/// Allowed beside them with a capability in the container's bounding set.
const CAPABLE: &[(Capability, &str)] = &[
    (Capability::DacReadSearch, "open_by_handle_at"),
    (
        Capability::SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr \
         move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount \
         umount2 unshare",
    ),
    (Capability::SysBoot, "reboot"),
    (Capability::SysChroot, "chroot"),
    (Capability::SysModule, "delete_module init_module finit_module"),
    (Capability::SysPacct, "acct"),
    (Capability::SysPtrace, "kcmp pidfd_getfd process_madvise"),
    (Capability::SysRawio, "iopl ioperm"),
    (Capability::SysTime, "settimeofday stime clock_settime clock_settime64"),
    (Capability::SysTtyConfig, "vhangup"),
    (Capability::SysNice, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (Capability::Syslog, "syslog"),
    (Capability::Bpf, "bpf"),
    (Capability::Perfmon, "perf_event_open"),
];

/// Allowed with one argument only: neither AF_ALG (38) nor AF_VSOCK (40), and no personality that weakens the memory
/// layout.
const ARGUMENTS: &[(&str, LinuxSeccompOperator, u64)] = &[
    ("socket", LinuxSeccompOperator::ScmpCmpLt, 38),
    ("socket", LinuxSeccompOperator::ScmpCmpEq, 39),
    ("socket", LinuxSeccompOperator::ScmpCmpGt, 40),
    ("personality", LinuxSeccompOperator::ScmpCmpEq, 0),
    ("personality", LinuxSeccompOperator::ScmpCmpEq, 0x0008),
    ("personality", LinuxSeccompOperator::ScmpCmpEq, 0x2_0000),
    ("personality", LinuxSeccompOperator::ScmpCmpEq, 0x2_0008),
    ("personality", LinuxSeccompOperator::ScmpCmpEq, 0xffff_ffff),
];

/// The flags of clone that make a namespace: mount, cgroup, uts, ipc, user, pid and net.
const NAMESPACES: u64 = 0x7e02_0000;

/// The native architecture and the 32-bit one that it also runs.
const ARCHES: &[Arch] = match cfg!(target_arch = "x86_64") {
    true => &[Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32],
    false => &[Arch::ScmpArchAarch64, Arch::ScmpArchArm],
};

/// For a container with these capabilities.
pub fn profile(capabilities: &Capabilities) -> Result<LinuxSeccomp, OciSpecError> {
    let allow = |names: &str, args| rule(names, LinuxSeccompAction::ScmpActAllow, None, args);
    let mut rules = vec![allow(ALLOWED, None)?];
    for (name, op, value) in ARGUMENTS {
        rules.push(allow(name, Some(argument(*op, *value, None)?))?);
    }
    // Since Linux 4.8, and we need a newer one: the checks of ptrace come after those of seccomp.
    rules.push(allow("process_vm_readv process_vm_writev ptrace", None)?);
    rules.push(allow(ARCHITECTURES, None)?);
    for (_, names) in CAPABLE.iter().filter(|(capability, _)| capabilities.contains(capability)) {
        rules.push(allow(names, None)?);
    }
    if !capabilities.contains(&Capability::SysAdmin) {
        let no_namespace = argument(LinuxSeccompOperator::ScmpCmpMaskedEq, NAMESPACES, Some(0))?;
        rules.push(allow("clone", Some(no_namespace))?);
        // Its flags are behind a pointer, where no filter can look: the C library then takes clone.
        let enosys = u32::try_from(libc::ENOSYS).ok();
        rules.push(rule("clone3", LinuxSeccompAction::ScmpActErrno, enosys, None)?);
    }
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(libc::EPERM.unsigned_abs())
        .architectures(ARCHES)
        .syscalls(rules)
        .build()
}

fn rule(
    names: &str,
    action: LinuxSeccompAction,
    errno: Option<u32>,
    argument: Option<LinuxSeccompArg>,
) -> Result<LinuxSyscall, OciSpecError> {
    let names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
    let mut rule = LinuxSyscallBuilder::default().names(names).action(action).build()?;
    rule.set_errno_ret(errno).set_args(argument.map(|argument| vec![argument]));
    Ok(rule)
}

fn argument(
    op: LinuxSeccompOperator,
    value: u64,
    value_two: Option<u64>,
) -> Result<LinuxSeccompArg, OciSpecError> {
    let mut argument = LinuxSeccompArgBuilder::default().index(0_usize).op(op).value(value);
    if let Some(value) = value_two {
        argument = argument.value_two(value);
    }
    argument.build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(rules: &[LinuxSyscall]) -> BTreeSet<&str> {
        rules.iter().flat_map(|rule| rule.names()).map(String::as_str).collect()
    }

    #[test]
    fn the_table_is_whole_and_every_name_is_a_system_call() {
        let list: Vec<&str> = ALLOWED.split_whitespace().collect();
        assert_eq!(list.len(), 363);
        let every = ARGUMENTS.iter().map(|(name, ..)| *name);
        let capable = CAPABLE.iter().flat_map(|(_, names)| names.split_whitespace());
        for name in list.into_iter().chain(ARCHITECTURES.split_whitespace()).chain(every).chain(capable) {
            assert!(super::super::number::known(name), "{name}");
        }
    }

    #[test]
    fn a_capability_opens_its_calls() {
        let plain = profile(&Capabilities::new()).expect("profile");
        let plain = names(plain.syscalls().as_deref().unwrap_or_default()).len();
        for (capability, calls) in CAPABLE {
            let made = profile(&Capabilities::from([*capability])).expect("profile");
            let rules = made.syscalls().as_deref().unwrap_or_default();
            let found = names(rules);
            assert!(calls.split_whitespace().all(|call| found.contains(call)), "{capability}");
            let admin = *capability == Capability::SysAdmin;
            let masked = rules.iter().any(|rule| {
                rule.names().contains(&"clone".to_owned())
                    && rule.args().as_ref().is_some_and(|args| args[0].value() == NAMESPACES)
            });
            assert_eq!(masked, !admin, "{capability}");
            assert!(found.len() > plain, "{capability} opens nothing");
        }
    }
}
