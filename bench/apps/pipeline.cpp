// Requests that pass from thread to thread: one thread parses the headers into
// batches of messages, two others answer them, a fourth files the answers.
// Every message is made on one thread and freed on the next, which is how
// servers with a thread for each stage treat an allocator.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "common/app.hpp"
#include "common/checksum.hpp"
#include "common/queue.hpp"
#include "common/text.hpp"

namespace {

// A line of a header, in parts.
struct Field {
  std::string text;
  std::vector<std::string> words;
};

struct Message {
  std::uint64_t id;
  std::string topic;
  std::vector<Field> fields;
};

struct Answer {
  std::uint64_t id;
  std::string topic;
  std::map<std::string, unsigned> uses;
  std::string summary;
};

// Messages travel in batches, or waking threads would be all the work.
template <class Item>
using Batch = std::vector<std::unique_ptr<Item>>;

template <class Item>
using Line = bench::Queue<Batch<Item>>;

constexpr std::size_t batch_size = 64;
constexpr std::size_t queue_capacity = 16;
constexpr std::size_t lines_in_message = 12;

template <class Item>
class Sender {
 public:
  explicit Sender(Line<Item>& line) : line_(line) {}

  void send(std::unique_ptr<Item> item) {
    batch_.push_back(std::move(item));
    if (batch_.size() == batch_size) flush();
  }

  void flush() {
    if (!batch_.empty()) line_.send(std::exchange(batch_, {}));
  }

 private:
  Line<Item>& line_;
  Batch<Item> batch_;
};

void parse(const bench::Corpus& corpus, Line<Message>& messages) {
  Sender sender(messages);
  std::uint64_t id = 0;
  for (const bench::SourceFile& file : corpus) {
    std::unique_ptr<Message> message;
    bench::for_each_line(file.text, [&](std::string_view line) {
      if (!message) message.reset(new Message{id++, file.path, {}});
      Field field{std::string(bench::trim(line)), {}};
      bench::for_each_word(line, [&](std::string_view word) { field.words.emplace_back(word); });
      message->fields.push_back(std::move(field));
      if (message->fields.size() == lines_in_message) sender.send(std::move(message));
    });
    if (message) sender.send(std::move(message));
  }
  sender.flush();
  messages.close();
}

std::unique_ptr<Answer> answer(const Message& message) {
  auto answer = std::make_unique<Answer>();
  answer->id = message.id;
  answer->topic = message.topic;
  std::size_t longest = 0;
  for (const Field& field : message.fields) {
    for (const std::string& word : field.words) ++answer->uses[word];
    longest = std::max(longest, field.text.size());
  }
  for (const auto& [word, uses] : answer->uses) {
    if (!answer->summary.empty()) answer->summary += ", ";
    answer->summary += word + " x" + std::to_string(uses);
  }
  answer->summary += "; longest line " + std::to_string(longest);
  return answer;
}

void serve(Line<Message>& messages, Line<Answer>& answers) {
  Sender sender(answers);
  while (std::optional<Batch<Message>> batch = messages.receive()) {
    for (std::unique_ptr<Message>& message : *batch) {
      sender.send(answer(*message));
      message.reset();
    }
  }
  sender.flush();
}

struct Filed {
  std::size_t answers = 0;
  // Answers come in any order, so their checksums are added up.
  std::uint64_t sum = 0;
  // What is kept: the latest answers of each topic, until there are too many.
  std::map<std::string, std::vector<std::unique_ptr<Answer>>> topics;
};

void file(Line<Answer>& answers, Filed& filed) {
  constexpr std::size_t most_kept = 200;
  while (std::optional<Batch<Answer>> batch = answers.receive()) {
    for (std::unique_ptr<Answer>& answer : *batch) {
      bench::Checksum checksum;
      checksum.add(answer->id);
      checksum.add(answer->topic);
      checksum.add(answer->summary);
      filed.sum += checksum.value();
      ++filed.answers;
      auto& kept = filed.topics[answer->topic];
      if (kept.size() == most_kept) kept.clear();
      kept.push_back(std::move(answer));
    }
  }
}

std::uint64_t work(const bench::Corpus& corpus) {
  Line<Message> messages(queue_capacity);
  Line<Answer> answers(queue_capacity);
  Filed filed;
  {
    const std::jthread filing([&] { file(answers, filed); });
    {
      const std::jthread parsing([&] { parse(corpus, messages); });
      const std::jthread other_server([&] { serve(messages, answers); });
      serve(messages, answers);
    }
    answers.close();
  }
  std::printf("%zu answers on %zu topics\n", filed.answers, filed.topics.size());
  bench::Checksum checksum;
  checksum.add(filed.answers);
  checksum.add(filed.sum);
  return checksum.value();
}

}  // namespace

int main(int argc, char** argv) { return bench::run({"pipeline", 8 << 20, work}, argc, argv); }
