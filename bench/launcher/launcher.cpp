// Runs one program and writes down what it took.
//
//   launcher --out FILE [--cpu LIST] [--stdout FILE] [--stderr FILE]
//            [--preload LIB] -- PROGRAM ARGS...
//
// It exists for the sake of the peak memory: Linux keeps a process's ru_maxrss
// over exec, so a child forked from a large program, such as the Python that
// runs the benchmark, is charged with that program's memory. This one is as
// small as a process can be: no iostream, no containers, statically linked
// where that works. All that is allocated here, or set up between fork and
// exec, is inside somebody's measurement.
//
// FILE gets one line of JSON: wall_ns (from just before fork to the child's
// end), user_ns, sys_ns, max_rss_bytes, then exit_status or signal, whichever
// ended the child, and exec_error, the reason why it could not be started, or
// null. LIST is as taskset has it: 0,2-3. Exit 0 means that FILE was written,
// however the child fared; 1 a failure, 2 a wrong command line.
//
// It leads a process group with all that the program starts. A signal to end
// it, or the end of who started it, ends them all.
#include <fcntl.h>

#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <initializer_list>
#ifdef __linux__
#include <sched.h>
#include <sys/prctl.h>
#endif
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

struct Options {
  const char* out = nullptr;
  const char* cpus = nullptr;
  const char* stdout_file = nullptr;
  const char* stderr_file = nullptr;
  const char* preload = nullptr;
  char** command = nullptr;
};

[[noreturn, gnu::format(printf, 2, 3)]] void fail(int status, const char* format, ...) {
  std::va_list arguments;
  va_start(arguments, format);
  std::fputs("launcher: ", stderr);
  std::vfprintf(stderr, format, arguments);
  std::fputc('\n', stderr);
  va_end(arguments);
  std::exit(status);
}

constexpr int failure = 1;
constexpr int wrong_usage = 2;

Options parse_options(char** arguments) {
  Options options;
  const struct {
    const char* name;
    const char** value;
  } known[] = {{"--out", &options.out},
               {"--cpu", &options.cpus},
               {"--stdout", &options.stdout_file},
               {"--stderr", &options.stderr_file},
               {"--preload", &options.preload}};
  for (char** argument = arguments + 1; *argument != nullptr; ++argument) {
    if (std::strcmp(*argument, "--") == 0) {
      options.command = argument + 1;
      break;
    }
    const char** value = nullptr;
    for (const auto& option : known) {
      if (std::strcmp(*argument, option.name) == 0) value = option.value;
    }
    if (value == nullptr) fail(wrong_usage, "unknown option '%s'", *argument);
    if (argument[1] == nullptr) fail(wrong_usage, "%s needs a value", *argument);
    *value = *++argument;
  }
  if (options.out == nullptr) fail(wrong_usage, "--out FILE is missing");
  if (options.command == nullptr || *options.command == nullptr) {
    fail(wrong_usage, "no program to run; it goes after --");
  }
  return options;
}

#ifdef __linux__
using CpuSet = cpu_set_t;

CpuSet parse_cpus(const char* list) {
  CpuSet cpus;
  CPU_ZERO(&cpus);
  const auto number = [list](const char*& text) {
    char* end = nullptr;
    const long cpu = *text >= '0' && *text <= '9' ? std::strtol(text, &end, 10) : -1;
    if (cpu < 0 || cpu >= CPU_SETSIZE) fail(wrong_usage, "--cpu '%s' is no list of CPUs", list);
    text = end;
    return static_cast<std::size_t>(cpu);
  };
  for (const char* text = list;; ++text) {
    const std::size_t first = number(text);
    const std::size_t last = *text == '-' ? number(++text) : first;
    for (std::size_t cpu = first; cpu <= last; ++cpu) CPU_SET(cpu, &cpus);
    if (*text == '\0') return cpus;
    if (*text != ',') fail(wrong_usage, "--cpu '%s' is no list of CPUs", list);
  }
}

int set_cpus(const CpuSet& cpus) { return sched_setaffinity(0, sizeof cpus, &cpus); }

// When the parent ends, this process gets the signal.
void end_with_parent(int signal) { prctl(PR_SET_PDEATHSIG, signal); }
#else
struct CpuSet {};

CpuSet parse_cpus(const char*) { fail(failure, "--cpu works on Linux only"); }

int set_cpus(const CpuSet&) { return 0; }

void end_with_parent(int) {}
#endif

int open_output(const char* path) {
  const int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file < 0) fail(failure, "cannot write '%s': %s", path, std::strerror(errno));
  return file;
}

// What the child needs, made ready before the clock starts.
struct Plan {
  char** command;
  const char* preload;
  bool has_cpus;
  CpuSet cpus;
  int stdout_file;
  int stderr_file;
};

// A reason sent from the child before it is the program: which step failed,
// and its errno.
struct ExecError {
  enum Step : int { none, affinity, output, preload, exec };
  Step step;
  int number;
};

const char* name_of(ExecError::Step step) {
  switch (step) {
    case ExecError::none:
      return "nothing";
    case ExecError::affinity:
      return "cannot set the CPUs";
    case ExecError::output:
      return "cannot redirect the output";
    case ExecError::preload:
      return "cannot set LD_PRELOAD";
    case ExecError::exec:
      return "cannot execute the program";
  }
  return "";
}

// Returns only with the reason why there is no new program.
ExecError become_program(const Plan& plan) {
  if (plan.has_cpus && set_cpus(plan.cpus) != 0) return {ExecError::affinity, errno};
  if (plan.stdout_file >= 0 && dup2(plan.stdout_file, STDOUT_FILENO) < 0) {
    return {ExecError::output, errno};
  }
  if (plan.stderr_file >= 0 && dup2(plan.stderr_file, STDERR_FILENO) < 0) {
    return {ExecError::output, errno};
  }
  if (plan.preload != nullptr && setenv("LD_PRELOAD", plan.preload, 1) != 0) {
    return {ExecError::preload, errno};
  }
  execvp(plan.command[0], plan.command);
  return {ExecError::exec, errno};
}

// This process too, which leads the group.
extern "C" void end_group(int) { kill(0, SIGKILL); }

std::int64_t now_ns() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

std::int64_t in_ns(const timeval& time) {
  return std::int64_t{time.tv_sec} * 1'000'000'000 + std::int64_t{time.tv_usec} * 1'000;
}

std::int64_t max_rss_bytes(const rusage& usage) {
#ifdef __APPLE__
  return usage.ru_maxrss;
#else
  return std::int64_t{usage.ru_maxrss} * 1024;
#endif
}

struct Result {
  std::int64_t wall_ns;
  rusage usage;
  int status;
  ExecError error;
};

Result run(const Plan& plan) {
  // The child writes to this only if it cannot become the program; exec
  // closes it.
  int reason[2];
  if (pipe(reason) != 0) fail(failure, "cannot make a pipe: %s", std::strerror(errno));
  fcntl(reason[0], F_SETFD, FD_CLOEXEC);
  fcntl(reason[1], F_SETFD, FD_CLOEXEC);

  Result result{};
  const std::int64_t start = now_ns();
  const pid_t child = fork();
  if (child < 0) fail(failure, "cannot fork: %s", std::strerror(errno));
  if (child == 0) {
    end_with_parent(SIGKILL);
    const ExecError error = become_program(plan);
    constexpr int not_started = 127;
    _exit(write(reason[1], &error, sizeof error) == sizeof error ? not_started : not_started - 1);
  }

  close(reason[1]);

  while (wait4(child, &result.status, 0, &result.usage) < 0) {
    if (errno != EINTR) fail(failure, "cannot wait: %s", std::strerror(errno));
  }
  result.wall_ns = now_ns() - start;
  if (read(reason[0], &result.error, sizeof result.error) != sizeof result.error) {
    result.error = {ExecError::none, 0};
  }
  close(reason[0]);
  return result;
}

// Control characters, which no path has for good reason, become a '?'.
void print_json_text(std::FILE* file, const char* text) {
  std::fputc('"', file);
  for (; *text != '\0'; ++text) {
    if (*text == '"' || *text == '\\') std::fputc('\\', file);
    std::fputc(static_cast<unsigned char>(*text) < 0x20 ? '?' : *text, file);
  }
  std::fputc('"', file);
}

void print(std::FILE* file, const Result& result, const char* program) {
  std::fprintf(file, "{\"wall_ns\": %lld, \"user_ns\": %lld, \"sys_ns\": %lld, ",
               static_cast<long long>(result.wall_ns),
               static_cast<long long>(in_ns(result.usage.ru_utime)),
               static_cast<long long>(in_ns(result.usage.ru_stime)));
  std::fprintf(file, "\"max_rss_bytes\": %lld, ",
               static_cast<long long>(max_rss_bytes(result.usage)));
  if (WIFSIGNALED(result.status)) {
    std::fprintf(file, "\"signal\": %d, ", WTERMSIG(result.status));
  } else {
    std::fprintf(file, "\"exit_status\": %d, ", WEXITSTATUS(result.status));
  }
  std::fputs("\"exec_error\": ", file);
  if (result.error.step == ExecError::none) {
    std::fputs("null", file);
  } else {
    char text[1024];
    std::snprintf(text, sizeof text, "%s: %s: %s", program, name_of(result.error.step),
                  std::strerror(result.error.number));
    print_json_text(file, text);
  }
  std::fputs("}\n", file);
}

}  // namespace

int main(int, char** argv) {
  const Options options = parse_options(argv);
  setpgid(0, 0);  // fails where it leads a session, and so a group, already
  struct sigaction action{};
  action.sa_handler = end_group;
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaction(number, &action, nullptr);
  end_with_parent(SIGTERM);
  // Opened first: a measurement that cannot be written down is not begun.
  std::FILE* out = fdopen(open_output(options.out), "w");
  if (out == nullptr) fail(failure, "cannot write '%s': %s", options.out, std::strerror(errno));
  const Plan plan{
      .command = options.command,
      .preload = options.preload,
      .has_cpus = options.cpus != nullptr,
      .cpus = options.cpus != nullptr ? parse_cpus(options.cpus) : CpuSet{},
      .stdout_file = options.stdout_file != nullptr ? open_output(options.stdout_file) : -1,
      .stderr_file = options.stderr_file != nullptr ? open_output(options.stderr_file) : -1,
  };
  print(out, run(plan), options.command[0]);
  if (std::fclose(out) != 0) fail(failure, "cannot write '%s'", options.out);
  return 0;
}
