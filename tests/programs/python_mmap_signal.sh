# needs: python3
python3 - <<'EOF'
import ctypes, errno, faulthandler, mmap, os, resource, signal, sys, tempfile, threading, time
m = mmap.mmap(-1, 1 << 20); m[:5] = b"hello"; m.seek(3); print(m.read(2), m.find(b"lo"), len(m))
m.resize(2 << 20); print(len(m), m[:5]); m.move(100, 0, 5); print(m[98:107])
if os.fork() == 0: m[0:5] = b"child"; os._exit(0)
os.wait(); print(m[:5])
with open("file", "w+b") as f:
    f.truncate(10000)
    s = mmap.mmap(f.fileno(), 0); s[9000:9004] = b"tail"; s.flush(); f.seek(9000); print(f.read(4))
    p = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY); p[0:2] = b"xx"; print(s[:2])
    r = mmap.mmap(f.fileno(), 4096, prot=mmap.PROT_READ, offset=4096); print(r[9000 - 4096 - 0:][:4] if False else r[:1])
    try: r[0] = 1
    except TypeError as e: print("read only")
    f.write(b"more"); f.flush(); os.pwrite(f.fileno(), b"seen", 0); print(s[:4])
    s.madvise(mmap.MADV_DONTNEED); p.madvise(mmap.MADV_DONTNEED); print(s[9000:9004], p[:2])
    s.close(); p.close(); r.close()
# A fault past the end of the file is SIGBUS.
if os.fork() == 0:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open("file", "r+b") as f:
        s = mmap.mmap(f.fileno(), 8192); f.truncate(0); s[5000]
    os._exit(0)
print(os.WTERMSIG(os.wait()[1]) == signal.SIGBUS)
if os.fork() == 0:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); ctypes.string_at(8); os._exit(0)
print(os.WTERMSIG(os.wait()[1]) == signal.SIGSEGV)
got = []
for s in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGRTMIN + 3): signal.signal(s, lambda n, f: got.append(n))
os.kill(os.getpid(), signal.SIGUSR1); signal.raise_signal(signal.SIGUSR2); os.kill(os.getpid(), signal.SIGRTMIN + 3); print(got)
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
while got.count(signal.SIGALRM) < 5: signal.pause()
signal.setitimer(signal.ITIMER_REAL, 0); print("alarms")
signal.setitimer(signal.ITIMER_VIRTUAL, 0.02); signal.signal(signal.SIGVTALRM, lambda n, f: got.append(n))
while signal.SIGVTALRM not in got: sum(range(1000))
print("virtual")
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]); os.kill(os.getpid(), signal.SIGUSR1)
print(signal.sigpending(), signal.sigwait([signal.SIGUSR1]))
print(signal.sigtimedwait([signal.SIGUSR1], 0.01)); os.kill(os.getpid(), signal.SIGUSR1)
i = signal.sigwaitinfo([signal.SIGUSR1]); print(i.si_signo, i.si_code, i.si_pid == os.getpid(), i.si_uid == os.getuid())
r, w = os.pipe(); os.set_blocking(w, False); old = signal.set_wakeup_fd(w)
os.kill(os.getpid(), signal.SIGUSR2); print(os.read(r, 1)[0] == signal.SIGUSR2); signal.set_wakeup_fd(old)
# An interrupted call is begun again (PEP 475), with what is left of its time.
signal.setitimer(signal.ITIMER_REAL, 0.05); t = time.monotonic(); time.sleep(0.2); print(time.monotonic() - t >= 0.2)
r, w = os.pipe(); threading.Timer(0.2, os.write, (w, b"late")).start(); signal.setitimer(signal.ITIMER_REAL, 0.05); print(os.read(r, 4))
t = threading.Thread(target=lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR2)); n = len(got)
t.start(); t.join(); time.sleep(0); print(len(got) > n)
signal.signal(signal.SIGCHLD, lambda n, f: got.append("child")); p = os.fork()
if p == 0: os._exit(7)
while "child" not in got: time.sleep(0.01)
print(os.waitid(os.P_PID, p, os.WEXITED | os.WNOWAIT).si_status, os.waitpid(p, 0)[1] >> 8)
p = os.fork()
if p == 0: signal.pause()
os.kill(p, signal.SIGSTOP); print(os.WIFSTOPPED(os.waitpid(p, os.WUNTRACED)[1]))
os.kill(p, signal.SIGCONT); print(os.WIFCONTINUED(os.waitpid(p, os.WCONTINUED)[1])); fd = os.pidfd_open(p)
signal.pidfd_send_signal(fd, signal.SIGKILL); print(os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]))
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, sorted(signal.valid_signals()) == list(range(1, 32)) + list(range(34, 65)))
try: signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt: print("interrupted")
EOF
python3 -X faulthandler -c 'import ctypes; ctypes.string_at(0)' 2>&1 | grep -c 'Segmentation fault'; echo "${PIPESTATUS[0]}"
rm file
