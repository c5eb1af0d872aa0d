// The letters of an op's shapes, bound and compared while a program is compiled.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "spec.h"

namespace moepp {

inline std::string shape_text(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); i++) {
    if (i > 0) text += ", ";
    switch (shape[i]) {
      case kTokens:
        text += "T";
        break;
      case kRows:
        text += "R";
        break;
      case kSequences:
        text += "B";
        break;
      case kSequencesPlus1:
        text += "B+1";
        break;
      case kPages:
        text += "M";
        break;
      case kReceived:
        text += "P";
        break;
      default:
        text += std::to_string(shape[i]);
    }
  }
  return text + "]";
}

// Letters of one op and the sizes they were bound to. Sizes may be Symbols.
class Letters {
 public:
  // Binds or compares each letter of `pattern` with `shape`; what was expected goes to *expected
  // when they differ.
  bool match(const char* pattern, const Shape& shape, std::string* expected) {
    Shape wanted;
    std::vector<std::string> words;
    split(pattern, &words);
    bool same = words.size() == shape.size();
    std::string text = "[";
    for (size_t i = 0; i < words.size(); i++) {
      const int64_t size = i < shape.size() ? shape[i] : 0;
      if (i > 0) text += ", ";
      text += one(words[i], size, &same);
    }
    *expected = text + "]";
    return same;
  }

 private:
  static void split(const char* pattern, std::vector<std::string>* words) {
    std::string word;
    for (const char* c = pattern;; c++) {
      if (*c == ' ' || *c == 0) {
        if (!word.empty()) words->push_back(word);
        word.clear();
        if (*c == 0) return;
      } else {
        word += *c;
      }
    }
  }

  // One word, "H", "2F" or "_", against a size; returns what was expected, in words.
  std::string one(const std::string& word, int64_t size, bool* same) {
    if (word == "_") return std::string("any");
    const bool twice = word[0] == '2';
    const std::string letter = twice ? word.substr(1) : word;
    const auto bound = sizes_.find(letter);
    if (bound == sizes_.end()) {
      if (twice && (size < 0 || size % 2 != 0)) {
        *same = false;
        return "an even size";
      }
      sizes_[letter] = twice ? size / 2 : size;
      return shape_text({size}).substr(1, shape_text({size}).size() - 2);
    }
    const int64_t expected = twice && bound->second >= 0 ? 2 * bound->second : bound->second;
    if (expected != size) *same = false;
    const std::string text = shape_text({expected});
    return text.substr(1, text.size() - 2);
  }

  std::map<std::string, int64_t> sizes_;
};

}  // namespace moepp
